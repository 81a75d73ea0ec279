"""Pictures that are written to be slow end in a named refusal soon after the CPU time that their size allows."""

from __future__ import annotations

import itertools
import struct
import zlib

import pytest
from PIL import Image

from backend.errors import ImageError
from backend.images import Limits, png
from backend.images.decode import decode
from backend.images.decoder_remarks import collected
from backend.images.timed_file import TimedFile, TooSlow
from tests.backend.images.pictures import saved
from tests.counted import num_calls

SOON = Limits(decode_s=0.02, decode_s_per_megapixel=0)
"""Each of PICTURES takes many times as long."""
MANY = 2**19
"""Bytes of each of PICTURES that make it slow."""


def _jpeg_segments(data: bytes) -> list[bytes]:
    """Of a progressive JPEG: everything between its first two bytes and its last two."""
    found, at = [], 2
    while data[at + 1] != 0xD9:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xDA:
            while data[end] != 0xFF or data[end + 1] == 0:
                end += 1
        found.append(data[at:end])
        at = end
    return found


def _jpeg_of_passes(num: int) -> bytes:
    """`num` passes over all pixels, which say nothing new."""
    data = saved(Image.new("L", (2_000, 2_000), 128), "JPEG", progressive=True)
    segments = _jpeg_segments(data)
    shortest = min((one for one in segments if one[1] == 0xDA), key=len)
    return b"".join([data[:2], *segments, shortest * num, data[-2:]])


def _jpeg_of_parts(part: bytes) -> bytes:
    data = saved(Image.new("L", (8, 8)), "JPEG")
    return data[:2] + part * (MANY // len(part)) + data[2:]


def _gif_of_comments() -> bytes:
    data = saved(Image.new("P", (8, 8)), "GIF")
    return data.replace(b",", b"\x21\xfe\x01A\x00" * (MANY // 5) + b",", 1)


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))


def _png_with(*chunks: bytes) -> bytes:
    data = saved(Image.new("RGB", (8, 8)), "PNG")
    at = data.index(b"IDAT") - 4
    return b"".join([data[:at], *chunks, data[at:]])


def _png_of_chunks(kind: bytes, body: bytes) -> bytes:
    chunk = _png_chunk(kind, body)
    return _png_with(chunk * (MANY // len(chunk)))


def _tiff_of_strips() -> bytes:
    """As many strips of one row as fit, all of them the same 64 bytes."""
    num, at = MANY // 8, 8 + 2 + 12 * 9 + 4
    tags = ((256, 1, 64), (257, 1, 64), (258, 1, 8), (259, 1, 1), (262, 1, 1), (273, num, at), (277, 1, 1), (278, 1, 1),
            (279, num, at + 4 * num))  # fmt: skip
    directory = b"".join(struct.pack("<HHLL", tag, 4, count, value) for tag, count, value in tags)
    head = b"II*\0" + struct.pack("<LH", 8, len(tags)) + directory + bytes(4)
    return head + struct.pack("<L", 8) * num + struct.pack("<L", 64) * num


PICTURES = {
    "a JPEG of many passes": lambda: _jpeg_of_passes(1_000),
    "a JPEG of many EXIF parts": lambda: _jpeg_of_parts(b"\xff\xe1\x00\x09Exif\0\0A"),
    "a JPEG of many comments": lambda: _jpeg_of_parts(b"\xff\xfe\x00\x03A"),
    "a JPEG of fill bytes": lambda: _jpeg_of_parts(b"\xff"),
    "a GIF of many comments": _gif_of_comments,
    "a PNG of many transparent colours": lambda: _png_of_chunks(b"tRNS", bytes(6)),
    "a PNG of many parts without a pixel": lambda: _png_of_chunks(b"IDAT", b""),
    "a TIFF of many strips": _tiff_of_strips,
}


@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_that_is_written_to_be_slow_is_refused_by_name(kind: str) -> None:
    with pytest.raises(ImageError, match="takes more than 0 s of CPU") as caught:
        decode(PICTURES[kind](), SOON)
    assert caught.value.kind == "unsupported_format"
    assert not caught.value.retryable


@pytest.mark.parametrize("kind", [b"teXt", b"fcTL", b"IDAT"])
def test_a_png_of_more_parts_than_any_program_writes_is_left_to_who_looks_at_the_time(kind: bytes) -> None:
    many = _png_with(_png_chunk(kind, b"") * (4 * png.MAX_CHUNKS))
    assert png.cleaned(many) == (many, None)
    assert num_calls(lambda: png.cleaned(many)) < 6 * png.MAX_CHUNKS


def test_a_file_can_be_read_until_its_time_is_over_and_more_may_be_allowed() -> None:
    seconds = itertools.count()
    file = TimedFile(b"abcdef", 1, clock=lambda: float(next(seconds)))
    assert file.read(1) == b"a"
    file.allow(2)
    assert (file.read(1), file.read(1)) == (b"b", b"c")
    with pytest.raises(TooSlow) as caught:
        file.read(1)
    assert caught.value.seconds == 3


def test_of_several_profiles_in_a_png_only_the_first_is_unpacked() -> None:
    """Each may be of 80 KB and unpack to megabytes."""
    damaged = _png_with(_png_chunk(b"iCCP", b"x\0\0no zlib"), _png_chunk(b"iCCP", b"x\0\0" + zlib.compress(b"profile")))
    with collected():
        assert png.cleaned(damaged) == (saved(Image.new("RGB", (8, 8)), "PNG"), None)
