"""Formats, and forms of a format, that cannot be read: refused under their own names, not as damaged files.

HEIC is read with the optional extra `heic`: pillow-heif, imported when the first such picture comes, or by
`import_decoders`. Raises ImageError.
"""

from __future__ import annotations

import io
import re
from functools import lru_cache
from types import ModuleType

from PIL import Image, UnidentifiedImageError

from backend.errors import ImageError
from backend.images.sniff import Sniffed

READ = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC"
_SAVE_ANEW = "Save it as JPEG or PNG."
# The words with which Pillow tells what it knows and cannot read from what it cannot make sense of.
_SAYS_UNSUPPORTED = re.compile(
    r"unsupported|not supported|unknown pixel mode|cannot handle|decoder \w+ not available|unknown raw mode",
    re.IGNORECASE,
)
_NEW_SUBFILE_TYPE = 254
_REDUCED = 1
# What TIFF's numbers stand for, as far as Pillow's libtiff has no decoder for it (TIFF 6.0 and registered numbers).
_COMPRESSIONS = {34661: "JBIG", 34712: "JPEG 2000", 33003: "JPEG 2000", 33005: "JPEG 2000", 34887: "LERC",
                 34892: "lossy JPEG of a camera raw", 34933: "PNG", 34934: "JPEG XR", 50001: "WebP",
                 50002: "JPEG XL", 52546: "JPEG XL", 34676: "LogLuv", 34677: "LogLuv", 32766: "NeXT",
                 32809: "ThunderScan", 34713: "camera raw (NEF)", 32767: "camera raw (ARW)"}  # fmt: skip
# Start of frame of JPEGs that are not baseline, extended or progressive.
_JPEG_FRAMES = {0xC3: "lossless", 0xC5: "hierarchical", 0xC6: "hierarchical", 0xC7: "hierarchical", 0xCB: "lossless",
                0xCD: "hierarchical", 0xCE: "hierarchical", 0xCF: "hierarchical", 0xF7: "JPEG-LS"}  # fmt: skip


def import_decoders() -> None:
    """Import what is imported else when the first picture needs it: in a process that can open no file any more."""
    Image.init()
    _register_heif()


def prepare(found: Sniffed) -> str:
    """Return Pillow's name of the format, once Pillow can open it."""
    if found.pillow_format == "HEIF" and not _register_heif():
        raise ImageError(
            "unsupported_format",
            "HEIC pictures are not read here, because pillow-heif is not installed: the extra `heic`; in the clone, "
            "uv pip install -c constraints.txt '.[heic]'",
        )
    if found.pillow_format is not None:
        return found.pillow_format
    if found.is_picture:
        raise ImageError(
            "unsupported_format", f"It is a picture of a format that is not read ({found.name}). {_SAVE_ANEW}"
        )
    raise ImageError("not_an_image", f"It is not a supported image (got {found.name}). Use {READ}.")


def check_form(image: Image.Image) -> None:
    """Refuse an opened picture whose pixels are not those that people see."""
    if image.format == "TIFF" and image.tag_v2.get(_NEW_SUBFILE_TYPE, 0) == _REDUCED:  # type: ignore[attr-defined]
        raise _unsupported("TIFF", "its first picture is a thumbnail, as in camera raw files such as DNG or NEF")


def too_slow(found: Sniffed) -> ImageError:
    return _unsupported(found.name, "decoding it takes far more CPU than pictures of its size need")


def damaged(found: Sniffed) -> ImageError:
    return ImageError("corrupt", f"The {found.name} picture is damaged or cut off.")


def unsupported_form(data: bytes, found: Sniffed, error: Exception) -> ImageError | None:
    """Return what to raise for a whole picture of a form that Pillow cannot read; None: it is rather damaged."""
    said = str(error)
    if found.name == "JPEG" and (frame := _jpeg_frame(data)):
        return _unsupported("JPEG", frame)
    if isinstance(error, UnidentifiedImageError) and found.pillow_format:
        said = _why_not_opened(data, found.pillow_format)
    if found.name == "TIFF" and (number := re.fullmatch(r"KeyError\((\d+)\)|(\d+)", said)):
        compression = int(number[1] or number[2])
        return _unsupported("TIFF", f"compression {_COMPRESSIONS.get(compression, compression)}")
    if _SAYS_UNSUPPORTED.search(said) and "0x" not in said:
        return _unsupported(found.name, " ".join(said.split())[:80])
    return None


def _unsupported(name: str, form: str) -> ImageError:
    return ImageError(
        "unsupported_format", f"It is a picture of a form of {name} that is not read ({form}). {_SAVE_ANEW}"
    )


def _why_not_opened(data: bytes, pillow_format: str) -> str:
    """Pillow keeps to itself why it did not open a picture; its plug-in says so."""
    try:
        Image.OPEN[pillow_format][0](io.BytesIO(data), "").close()
    except Exception as error:  # as in decode: anything
        return str(error)
    return ""


def _jpeg_frame(data: bytes) -> str:
    """The kind of the first frame if libjpeg has no decoder for it, else ""."""
    position = 2
    while position + 9 < len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in _JPEG_FRAMES:
            return _JPEG_FRAMES[marker]
        if 0xC0 <= marker <= 0xC2 and data[position + 4] != 8:
            return f"{data[position + 4]} bits a channel"
        if marker == 0xDA or 0xC0 <= marker <= 0xC2:
            return ""
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big") if marker != 0xFF else 1
    return ""


def _register_heif() -> bool:
    try:
        import pillow_heif
    except ImportError:
        return False
    _set_up(pillow_heif)
    return True


@lru_cache(maxsize=1)
def _set_up(pillow_heif: ModuleType) -> None:
    """No thumbnails: Pillow would take one for the picture. One thread: as many pictures are decoded at once anyway."""
    pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
