"""Pictures that are written to be slow end in a named refusal soon after the CPU time that their size allows."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from backend.errors import ImageError
from backend.images import ImageFetcher, Limits, png
from backend.images.apart import Decoders
from backend.images.decoder_remarks import collected
from tests.backend.images.conftest import PATIENT, policy
from tests.backend.images.pictures import saved
from tests.limits import WAIT_S

SOON = Limits(decode_s=0.01, decode_s_per_megapixel=0, queue_s=WAIT_S)
"""Each of PICTURES takes many times as long; an ordinary one of their size does not."""
MANY = 2**20
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


def _tiff(num_rows: int, num_strips: int, compression: int, strip: bytes) -> bytes:
    """All its strips are the same `strip`."""
    head_bytes = 8 + 2 + 12 * 9 + 4
    tags = ((256, 1, 64), (257, 1, num_rows), (258, 1, 8), (259, 1, compression), (262, 1, 1),
            (273, num_strips, head_bytes), (277, 1, 1), (278, 1, 1), (279, num_strips, head_bytes + 4 * num_strips),
            )  # fmt: skip
    directory = b"".join(struct.pack("<HHLL", tag, 4, count, value) for tag, count, value in tags)
    places = struct.pack("<L", head_bytes + 8 * num_strips) * num_strips + struct.pack("<L", len(strip)) * num_strips
    return b"II*\0" + struct.pack("<LH", 8, len(tags)) + directory + bytes(4) + places + strip


def _avif_of_items() -> bytes:
    """Nothing but places of items, each of which is looked up among all."""
    num = MANY // 10
    places = b"".join(struct.pack(">LHHH", item + 1, 0, 0, 0) for item in range(num))
    meta = _box(b"hdlr", bytes(8) + b"pict" + bytes(13)) + _box(b"pitm", bytes(4) + b"\0\1")
    meta += _box(b"iloc", b"\2\0\0\0" + bytes(2) + struct.pack(">L", num) + places)
    return _box(b"ftyp", b"avif" + bytes(4) + b"avifmif1miaf") + _box(b"meta", bytes(4) + meta)


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">L", 8 + len(content)) + kind + content


PICTURES = {
    "a JPEG of many passes": lambda: _jpeg_of_passes(1_000),
    "a JPEG of many EXIF parts": lambda: _jpeg_of_parts(b"\xff\xe1\x00\x09Exif\0\0A"),
    "a JPEG of many comments": lambda: _jpeg_of_parts(b"\xff\xfe\x00\x03A"),
    "a JPEG of fill bytes": lambda: _jpeg_of_parts(b"\xff"),
    "a GIF of many comments": _gif_of_comments,
    "a PNG of many transparent colours": lambda: _png_of_chunks(b"tRNS", bytes(6)),
    "a PNG of many parts without a pixel": lambda: _png_of_chunks(b"IDAT", b""),
    "a TIFF of many strips": lambda: _tiff(64, MANY // 8, 1, bytes(64)),
    "a TIFF of long strips": lambda: _tiff(1_000, 1_000, 32773, b"\x80" * (MANY // 2) + b"\xc1\0"),
    "an AVIF of many items": _avif_of_items,
}


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    with closing(Decoders(SOON)) as decoders:
        yield decoders


@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_that_is_written_to_be_slow_is_refused_by_name(decoders: Decoders, kind: str) -> None:
    with pytest.raises(ImageError, match="takes far more CPU than pictures of its size") as caught:
        decoders.decode(PICTURES[kind]())
    assert caught.value.kind == "unsupported_format"
    assert not caught.value.retryable


def test_a_fetcher_refuses_it_and_fetches_the_next(tmp_path: Path) -> None:
    for name, data in (("slow", _avif_of_items()), ("next", saved(Image.new("RGB", (8, 8)), "PNG"))):
        (tmp_path / name).write_bytes(data)

    async def run() -> None:
        fetcher = ImageFetcher(policy(limits=replace(PATIENT, decode_s=0.2)))
        with pytest.raises(ImageError, match="takes far more CPU"):
            await fetcher.fetch_file(tmp_path / "slow")
        assert (await fetcher.fetch_file(tmp_path / "next")).picture.rgb
        await fetcher.aclose()

    asyncio.run(run())


def test_of_several_profiles_in_a_png_only_the_first_is_unpacked() -> None:
    """Each may be of 80 KB and unpack to megabytes."""
    damaged = _png_with(_png_chunk(b"iCCP", b"x\0\0no zlib"), _png_chunk(b"iCCP", b"x\0\0" + zlib.compress(b"profile")))
    with collected():
        assert png.cleaned(damaged) == (saved(Image.new("RGB", (8, 8)), "PNG"), None)
