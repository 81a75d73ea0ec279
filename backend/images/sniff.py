"""What a file is, from its first bytes: a format we decode, or the name of what it is instead, for the message.

Never believes a file name or a media type. Cannot fail. By hand because Pillow says the same of a damaged picture and
of what is no picture, and takes HEIC for AVIF until it has opened it; people need to know which of these it is.
"""

from __future__ import annotations

import re

_PICTURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
)
_OTHERS = (
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"8BPS", "PSD"),
    (b"%!PS", "EPS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"%PDF", "PDF"),
    (b"icns", "ICNS"),
    (b"\x00\x00\x01\x00", "ICO"),
    (b"SIMPLE  =", "FITS"),
    (b"PK\x03\x04", "ZIP"),
    (b"\x1f\x8b", "gzip"),
    (b"\x1a\x45\xdf\xa3", "video"),
)
_MARKUP = re.compile(rb"<!doctype html|<html|<head|<body|<svg|<\?xml|<error", re.IGNORECASE)
_HEAD_BYTES = 1024


def sniff(data: bytes) -> tuple[str | None, str]:
    """Return (Pillow's format name or None, a name for people)."""
    for magic, name in _PICTURES:
        if data.startswith(magic):
            return name, name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP", "WEBP"
    if data[4:8] == b"ftyp":
        return _iso_media(data)
    for magic, name in _OTHERS:
        if data.startswith(magic):
            return None, name
    return None, _text(data[:_HEAD_BYTES])


def _iso_media(data: bytes) -> tuple[str | None, str]:
    """AVIF, HEIC and MP4 share one container; the brands tell which (ISO/IEC 14496-12, box `ftyp`)."""
    end = min(int.from_bytes(data[:4], "big"), 256)
    brands = {data[8:12], *(data[i : i + 4] for i in range(16, end, 4))}
    if brands & {b"avif", b"avis"}:
        return "AVIF", "AVIF"
    if brands & {b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"}:
        return None, "HEIC"
    return None, "video"


def _text(head: bytes) -> str:
    if not head:
        return "an empty file"
    found = _MARKUP.search(head)
    if found and not head[: found.start()].lstrip(b"\xef\xbb\xbf \t\r\n"):
        if b"<svg" in head.lower():
            return "SVG"
        return "XML" if found[0].lower() in (b"<?xml", b"<error") else "HTML"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
        return "JSON"
    if all(byte >= 0x20 or byte in b"\t\r\n" for byte in head):
        return "text"
    return "an unknown format"
