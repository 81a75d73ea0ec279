"""Bytes of a picture file -> the upright RGB picture the model sees, as the annotator's browser shows it.

Size limits are checked from the header, before any pixel is decoded; the format comes from the first bytes; a cut-off
file is refused, not half shown. Large pictures are converted band by band, so the peak is about one decoded copy. For
how long it may go on is not looked at here: `apart` calls this where it can be ended.
docs/pictures.md says what is read and what is not. Not covered: every frame after the first. Raises ImageError and
nothing else.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from PIL import Image

from backend.engine.messages import Picture
from backend.errors import ImageError
from backend.images import bmp, heic, png
from backend.images.colours import Profile, profile_of
from backend.images.decoder_remarks import collected
from backend.images.forms import check_form, damaged, prepare, unsupported_form
from backend.images.policy import Limits
from backend.images.sniff import Sniffed, sniff

_BAND_PIXELS = 2_000_000
_SHRINK_GAP = 2
"""How many times as long and wide as what the model sees a picture is at least until the last resizing but one: so far
the cheap ways (JPEG's own, averages, BILINEAR) are as good as LANCZOS, and many times faster."""
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Peak memory of Pillow 13 a pixel, measured; 4 for one copy where not listed. WebP's decoder keeps two canvases beside
# Pillow's two copies, AVIF's keeps planes, and Pillow turns a TIFF in a second copy.
_BYTES_PER_PIXEL = {"WEBP": 16, "AVIF": 9, "TIFF": 8, "HEIF": 12}
_ORIENTATION_TAG = 0x0112
_SHORT = 3


@dataclass(frozen=True, slots=True)
class Decoded:
    """`scale`: the picture's sides are so many of the source's, at most 1.

    `remarks`: one line about what was left out or odd, for the log; "" if nothing was.
    """

    picture: Picture
    scale: float = 1.0
    remarks: str = ""

    @property
    def shape(self) -> float:
        """Longer side / shorter side."""
        sides = sorted((self.picture.width_px, self.picture.height_px))
        return sides[1] / sides[0]


@dataclass(frozen=True, slots=True)
class FetchedImage(Decoded):
    """`sha256` (hex) is of the source file."""

    sha256: str = field(kw_only=True)


def decode(data: bytes, limits: Limits, begin: Callable[[int], None] = lambda num_pixels: None) -> Decoded:
    """Decode the first frame, turn it upright, put it on white and shrink it to `limits.picture_max_pixels`.

    `begin` is told how many pixels it has before any is decoded.
    """
    with collected() as said:
        found = sniff(data)
        picture, scale = _decode(data, found, limits, begin)
        if said.is_damaged:  # libtiff says so of pixels that Pillow takes
            raise damaged(found)
    return Decoded(picture, scale, said.line)


def _decode(data: bytes, found: Sniffed, limits: Limits, begin: Callable[[int], None]) -> tuple[Picture, float]:
    pillow_format = prepare(found)
    try:
        return _decode_first_frame(data, pillow_format, limits, begin)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_many_pixels(pillow_format, limits) from None
    except MemoryError:
        raise ImageError("too_many_pixels", f"There is not enough memory for this {found.name} picture.") from None
    except Exception as error:
        # Decoders of hostile bytes raise nearly anything; their texts hold memory addresses, so none is passed on.
        raise unsupported_form(data, found, error) or damaged(found) from None


def _decode_first_frame(
    data: bytes, pillow_format: str, limits: Limits, begin: Callable[[int], None]
) -> tuple[Picture, float]:
    file, icc = data, None
    if pillow_format == "PNG":
        file, icc = png.cleaned(data)
    elif pillow_format == "BMP":
        file = bmp.plain(data, limits.max_pixels)
    elif pillow_format == "HEIF" and heic.num_decoded_pixels(data) > 2 * _max_pixels(pillow_format, limits):
        raise _too_many_pixels(pillow_format, limits)  # tiles may go beyond its edges, but not so far
    with Image.open(io.BytesIO(file), formats=[pillow_format]) as image:
        _check_shape(*image.size, pillow_format, limits)
        check_form(image)
        num_pixels = image.width * image.height
        begin(num_pixels)
        scale = min(1.0, math.sqrt(limits.picture_max_pixels / num_pixels))
        profile = profile_of(image, icc or image.info.get("icc_profile"))
        rgb = _shrunken_rgb(image, scale, profile, limits)
        orientation = 1 if pillow_format == "TIFF" else _orientation(image)  # Pillow turns TIFF itself
    if orientation in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[orientation])
    return Picture(rgb.width, rgb.height, rgb.tobytes()), scale


def _check_shape(width: int, height: int, pillow_format: str, limits: Limits) -> None:
    if width < 1 or height < 1:
        raise ImageError("bad_shape", "The picture has no pixels.")
    if width * height > _max_pixels(pillow_format, limits):
        raise _too_many_pixels(pillow_format, limits)
    ratio = max(width, height) / min(width, height)
    if ratio > limits.max_aspect_ratio:
        raise ImageError(
            "bad_shape",
            f"The picture is {width}x{height}: one side is {ratio:.0f} times the other, "
            f"more than {limits.max_aspect_ratio}.",
        )


def _shrunken_rgb(image: Image.Image, scale: float, profile: Profile | None, limits: Limits) -> Image.Image:
    final = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    gap = max(1.0, _SHRINK_GAP * math.sqrt(limits.seen_pixels / limits.picture_max_pixels))
    averaged = (math.ceil(final[0] * gap), math.ceil(final[1] * gap))
    if scale < 1:
        image.draft(None, averaged)  # JPEG decodes at 1/2, 1/4 or 1/8
    header_size = image.size
    image.load()
    if image.size != header_size:
        raise ImageError("corrupt", "The picture is of another size than its header says.")
    factor = max(1, min(image.width // averaged[0], image.height // averaged[1]))
    # Colours are converted last, where there are fewest pixels, unless the pixels that are shrunk are no longer those
    # that the profile is for: of inks, and of what is mixed with the paper.
    is_early = image.mode == "CMYK" or image.has_transparency_data
    rgb = _rgb_by_bands(image, factor, profile if is_early else None)
    resampling = Image.Resampling.LANCZOS if gap > 1 else Image.Resampling.BILINEAR
    rgb = rgb if rgb.size == final else rgb.resize(final, resampling)
    return rgb if profile is None or is_early else profile.to_srgb(rgb)


def _rgb_by_bands(image: Image.Image, factor: int, profile: Profile | None) -> Image.Image:
    """Return `image` as RGB, averaged over squares of `factor` pixels, holding only one band of RGB at a time."""
    brightness = _brightness(image)
    band_rows = max(1, _BAND_PIXELS // (image.width * factor)) * factor
    small = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    for top in range(0, image.height, band_rows):
        band = image.crop((0, top, image.width, min(top + band_rows, image.height)))
        rgb = _opaque_rgb(band, brightness, profile)
        small.paste(rgb.reduce(factor) if factor > 1 else rgb, (0, top // factor))
    return small


def _opaque_rgb(image: Image.Image, brightness: float, profile: Profile | None) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":  # Pillow's own conversion clips all above 255 to white
        wide = image if image.mode == "F" else image.convert("I")
        image = wide.point(lambda value: value * brightness + 0).convert("L")
    if not image.has_transparency_data:
        return profile.to_srgb(image) if profile else image.convert("RGB")
    # Pixels under alpha 0 keep a hidden colour: a browser shows what is behind them, so does white paper.
    rgba = image.convert("RGBA")
    paper = Image.new("RGB", image.size, (255, 255, 255))
    paper.paste(profile.to_srgb(rgba) if profile else rgba, mask=rgba.getchannel("A"))
    return paper


def _brightness(image: Image.Image) -> float:
    """Return what grey values wider than 8 bits are multiplied with to become 0..255."""
    if image.mode.startswith("I;16"):
        return 1 / 256
    if image.mode not in ("I", "F"):
        return 1.0
    _, brightest = image.getextrema()
    if not isinstance(brightest, int | float) or not math.isfinite(brightest):
        raise ImageError("corrupt", "The picture holds values that are not numbers.")
    if image.mode == "F" and brightest <= 1:
        return 255.0
    if brightest <= 255:
        return 1.0
    return 1 / 256 if brightest <= 65535 else 255 / brightest


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8; 1 if there is none, or none that can be read.

    By hand: Pillow takes one from XMP too, which no browser does, and warns on damaged EXIF.
    """
    exif = image.info.get("exif", b"")
    exif = exif.removeprefix(b"Exif\x00\x00") if isinstance(exif, bytes) else b""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "L", exif, 4)
        (num_entries,) = struct.unpack_from(order + "H", exif, directory)
        for entry in range(num_entries):
            tag, kind, count, value = struct.unpack_from(order + "HHLH", exif, directory + 2 + 12 * entry)
            if tag == _ORIENTATION_TAG:
                return int(value) if kind == _SHORT and count == 1 and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def _max_pixels(pillow_format: str, limits: Limits) -> int:
    return min(limits.max_pixels, limits.max_decode_bytes // _BYTES_PER_PIXEL.get(pillow_format, 4))


def _too_many_pixels(pillow_format: str, limits: Limits) -> ImageError:
    millions = _max_pixels(pillow_format, limits) / 1_000_000
    name = "HEIC" if pillow_format == "HEIF" else pillow_format
    return ImageError(
        "too_many_pixels", f"The picture has more than {millions:.0f} million pixels, the limit for {name}."
    )
