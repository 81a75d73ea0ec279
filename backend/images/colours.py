"""ICC profiles: what a picture's numbers mean, brought to sRGB as a browser does before it shows them.

A profile that says what sRGB says costs nothing. One that cannot be used (damaged, of another kind than the pixels,
huge) is left out with a remark and the numbers are taken for sRGB, which is what browsers do. Nothing here raises.
Not covered: colours that are told without a profile (gAMA and cHRM of PNG, nclx of AVIF and HEIC).
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageChops, ImageCms

from backend.images.decoder_remarks import remark

MAX_PROFILE_BYTES = 8 * 2**20
"""The largest of printing presses have 3 MB."""
MAX_TABLES = 100
"""littleCMS refuses a profile with more."""
MAX_DIFFERENCE = 2
"""Levels of 255 by which a profile may differ from sRGB and is still taken for it: what rounding makes of copies."""
_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
_GREY_MODES = ("1", "L", "LA", "F")
_STEPS = 9
_HEAD_BYTES = 128


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """`mode`: that of the pixels which `to_srgb` takes: RGB, L or CMYK. Thread-safe."""

    mode: str
    _transform: ImageCms.ImageCmsTransform

    def to_srgb(self, image: Image.Image) -> Image.Image:
        converted = ImageCms.applyTransform(image.convert(self.mode), self._transform)
        assert converted is not None
        return converted


def profile_of(image: Image.Image, icc: object) -> Profile | None:
    """Return what brings the pixels of `image` to sRGB; None where there is nothing to do, or nothing that can be."""
    if not isinstance(icc, bytes) or not icc:
        return None
    profile = _read(icc)
    if isinstance(profile, str):
        remark(f"its colour profile is left out: {profile}")
        return None
    if profile is None or _fits(profile.mode, image.mode):
        return profile
    remark(f"its colour profile is left out: it is for {profile.mode} pixels, and these are {image.mode}")
    return None


def _fits(profile_mode: str, image_mode: str) -> bool:
    is_grey = image_mode in _GREY_MODES or image_mode.startswith("I")
    if profile_mode == "L":
        return is_grey
    if profile_mode == "CMYK":
        return image_mode == "CMYK"
    return image_mode not in ("CMYK", "LAB")


@lru_cache(maxsize=16)
def _read(icc: bytes) -> Profile | str | None:
    """None: it is sRGB. A text: why it cannot be used."""
    if len(icc) > MAX_PROFILE_BYTES:
        return f"it has more than {MAX_PROFILE_BYTES // 2**20} MB"
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(_without_elements(icc)))
        kind = source.profile.xcolor_space.strip()
        if kind not in _MODES:
            return f"it is of the kind {kind!r}"
        # What browsers do, too: the perceptual tables of a press, and for screens the one way there is.
        transform = ImageCms.buildTransform(source, _srgb(), _MODES[kind], "RGB", ImageCms.Intent.PERCEPTUAL)
        profile = Profile(_MODES[kind], transform)
        return None if profile.mode != "CMYK" and _is_srgb(profile) else profile
    except Exception:  # of a hostile profile anything; its texts are of no use to people
        return "it is damaged"


def _without_elements(icc: bytes) -> bytes:
    """`icc` with the names changed of the tables that are made of processing elements: no browser reads them, and a
    profile of 400 bytes may have a million, which littleCMS would read and go through for days."""
    profile = bytearray(icc)
    (num_tables,) = struct.unpack_from(">L", profile, _HEAD_BYTES)
    for at in range(_HEAD_BYTES + 4, _HEAD_BYTES + 4 + 12 * min(num_tables, MAX_TABLES), 12):
        if bytes(profile[at : at + 3]) in (b"D2B", b"B2D"):
            profile[at : at + 3] = profile[at : at + 3].lower()
    return bytes(profile)


@lru_cache(maxsize=1)
def _srgb() -> ImageCms.ImageCmsProfile:
    """As a profile of version 2: to one of version 4 littleCMS fits the black of a press, and browsers do not."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[8:10] = b"\x02\x10"
    return ImageCms.ImageCmsProfile(io.BytesIO(bytes(profile)))


def _is_srgb(profile: Profile) -> bool:
    levels = [round(255 * i / (_STEPS - 1)) for i in range(_STEPS)]
    colours = Image.new("RGB", (_STEPS, _STEPS**2))
    colours.putdata([(r, g, b) for r in levels for g in levels for b in levels])
    if profile.mode == "L":
        colours = colours.convert("L").convert("RGB")
    after = profile.to_srgb(colours)
    beyond = ImageChops.difference(colours, after).point(lambda level: level > MAX_DIFFERENCE)
    return beyond.getbbox() is None
