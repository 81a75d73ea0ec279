"""What a file is, from its first bytes: a format we decode, or the name of what it is instead, for the message.

Never believes a file name or a media type. Cannot fail. By hand because Pillow says the same of a damaged picture and
of what is no picture, and takes HEIC for AVIF until it has opened it; people need to know which of these it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_DECODED = (
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
_OTHER_PICTURES = (
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"II\xbc\x01", "JPEG XR"),
    (b"8BPS", "PSD"),
    (b"gimp xcf", "XCF"),
    (b"%!PS", "EPS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"\xd7\xcd\xc6\x9a", "WMF"),
    (b"icns", "ICNS"),
    (b"\x00\x00\x01\x00", "ICO"),
    (b"\x00\x00\x02\x00", "CUR"),
    (b"SIMPLE  =", "FITS"),
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"\x0a\x05\x01\x08", "PCX"),
    (b"\x01\xda\x01\x01", "SGI"),
    (b"FLIF", "FLIF"),
    (b"BPG\xfb", "BPG"),
    (b"AT&TFORM", "DjVu"),
    (b"\x8aMNG\r\n\x1a\n", "MNG"),
    (b"\x8bJNG\r\n\x1a\n", "JNG"),
    (b"FUJIFILMCCD-RAW", "camera raw (RAF)"),
    (b"IIU\x00", "camera raw (RW2)"),
    (b"IIRO", "camera raw (ORF)"),
    (b"MMOR", "camera raw (ORF)"),
    (b"FOVb", "camera raw (X3F)"),
    (b"/* XPM */", "XPM"),
)
_NO_PICTURES = (
    (b"%PDF", "PDF"),
    (b"PK\x03\x04", "ZIP"),
    (b"\x1f\x8b", "gzip"),
    (b"\x1a\x45\xdf\xa3", "video"),
    (b"FLV\x01", "video"),
    (b"OggS", "audio or video"),
    (b"ID3", "audio"),
)
_RIFF = {b"AVI ": "video", b"WAVE": "audio"}
_NETPBM = re.compile(rb"P[1-7f][\s#]")
_MARKUP = re.compile(rb"<!doctype html|<html|<head|<body|<svg|<\?xml|<error", re.IGNORECASE)
_HEAD_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Sniffed:
    """`pillow_format`: what decodes it, None if nothing here does. `name`: for people. `is_picture`: of some format."""

    name: str
    pillow_format: str | None = None
    is_picture: bool = True


def sniff(data: bytes) -> Sniffed:
    if data[8:11] == b"CR\x02" and data[:2] in (b"II", b"MM"):
        return Sniffed("camera raw (CR2)")
    for magic, name in _DECODED:
        if data.startswith(magic):
            return Sniffed(name, name)
    if data[:4] == b"RIFF":
        if data[8:12] == b"WEBP":
            return Sniffed("WEBP", "WEBP")
        return Sniffed(_RIFF.get(data[8:12], "an unknown format"), is_picture=False)
    if data[4:8] == b"ftyp":
        return _iso_media(data)
    for magic, name in _OTHER_PICTURES:
        if data.startswith(magic):
            return Sniffed(name)
    for magic, name in _NO_PICTURES:
        if data.startswith(magic):
            return Sniffed(name, is_picture=False)
    if _NETPBM.match(data):
        return Sniffed("PNM")
    name = _text(data[:_HEAD_BYTES])
    return Sniffed(name, is_picture=name == "SVG")


def _iso_media(data: bytes) -> Sniffed:
    """AVIF, HEIC and MP4 share one container; the brands tell which (ISO/IEC 14496-12, box `ftyp`)."""
    end = min(int.from_bytes(data[:4], "big"), 256)
    brands = {data[8:12], *(data[i : i + 4] for i in range(16, end, 4))}
    if brands & {b"avif", b"avis"}:
        return Sniffed("AVIF", "AVIF")
    if brands & {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}:
        return Sniffed("HEIC", "HEIF")
    if b"crx " in brands:
        return Sniffed("camera raw (CR3)")
    return Sniffed("video", is_picture=False)


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
