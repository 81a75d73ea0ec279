"""What a process that decodes says of a picture: a head of JSON, and after it the pixels if there are any.

The other side may have been taken over by the picture, so nothing of a head is believed unchecked, and reading one
makes nothing but numbers and texts. `read_head` raises Malformed.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import cast, get_args

from backend.errors import ImageError, ImageErrorKind
from backend.images.decode import Decoded
from backend.images.policy import Limits
from backend.processes import Malformed

MAX_HEAD_BYTES = 2**16
_MAX_TEXT_CHARS = 2_000
_KINDS = get_args(ImageErrorKind)


@dataclass(frozen=True, slots=True)
class Asks:
    """The picture is a large one, which waits for its turn."""


@dataclass(frozen=True, slots=True)
class Comes:
    """The pixels of a picture come next, so many bytes."""

    width_px: int
    height_px: int
    scale: float
    remarks: str

    @property
    def num_bytes(self) -> int:
        return 3 * self.width_px * self.height_px


def head(said: Decoded | ImageError | Asks) -> bytes:
    match said:
        case Asks():
            content: dict[str, object] = {"is_large": True}
        case ImageError():
            content = {"error": [said.kind, str(said)[:_MAX_TEXT_CHARS]]}
        case Decoded(picture, scale, remarks):
            content = {"size": [picture.width_px, picture.height_px], "scale": scale, "remarks": remarks}
    return json.dumps(content).encode()


def read_head(text: bytes, limits: Limits) -> Comes | ImageError | Asks:
    with contextlib.suppress(ValueError, RecursionError):
        match json.loads(text):
            case {"error": [str(kind), str(why)]} if kind in _KINDS:
                return ImageError(cast(ImageErrorKind, kind), why)
            case {"size": [int(width), int(height)], "scale": float(scale), "remarks": str(remarks)}:
                most = limits.picture_max_pixels + width + height  # the sides are rounded
                if min(width, height) >= 1 and width * height <= most and 0 < scale <= 1:
                    return Comes(width, height, scale, remarks)
            case {"is_large": True}:
                return Asks()
    raise Malformed
