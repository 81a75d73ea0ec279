"""Small pictures for the report, inside its page: a local file -> JPEG bytes -> a `data:` address.

Files are read as everywhere else: size and pixels checked before anything is decoded. Nothing is fetched from a
network. Nothing here raises; what gives no picture gives None.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from backend.errors import ImageError
from backend.images.decode import decode
from backend.images.files import read_file
from backend.images.policy import Limits

THUMBNAIL_PX = 176
"""The longer side. Shown smaller, so that it is sharp on a dense screen."""
MAX_THUMBNAIL_BYTES = 60_000
_QUALITY = 82
_LIMITS = Limits(picture_max_pixels=16 * THUMBNAIL_PX**2)
_JPEG = b"\xff\xd8\xff"

Thumbnails = Callable[[str], bytes | None]
"""The `image` of a record -> JPEG bytes, or None. Raises nothing."""


def local_thumbnail(image: str) -> bytes | None:
    """Of a local file; None for an address, and for a file that is gone or no picture."""
    if not image.startswith("/"):
        return None
    try:
        picture = decode(read_file(Path(image), _LIMITS.max_bytes), _LIMITS).picture
    except ImageError:
        return None
    small = Image.frombytes("RGB", (picture.width_px, picture.height_px), picture.rgb)
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_QUALITY, optimize=True)
    return file.getvalue()


def data_address(jpeg: bytes | None) -> str | None:
    """None for anything but a JPEG of at most `MAX_THUMBNAIL_BYTES`."""
    if jpeg is None or not jpeg.startswith(_JPEG) or len(jpeg) > MAX_THUMBNAIL_BYTES:
        return None
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"
