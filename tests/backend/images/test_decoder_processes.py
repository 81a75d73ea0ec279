"""A picture of a format that a library reads at once is decoded in a process, which ends when its time is over."""

from __future__ import annotations

import multiprocessing
import os
import signal
import struct
import threading
import zlib
from collections.abc import Iterator

import pytest
from PIL import Image

from backend.errors import ImageError
from backend.images import Limits
from backend.images.decode import decode
from backend.images.decoder_processes import DecoderProcesses
from tests.backend.images.pictures import saved
from tests.limits import WAIT_S, until

SOON = Limits(decode_s=0.02, decode_s_per_megapixel=0)
"""The system counts whole seconds. Each of SLOW takes many."""
NEVER = Limits(decode_s=WAIT_S)


@pytest.fixture
def decoders() -> Iterator[DecoderProcesses]:
    decoders = DecoderProcesses()
    yield decoders
    decoders.close()


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">L4s", 8 + len(content), kind) + content


def _avif_of_items(num: int = 200_000) -> bytes:
    """Their library looks each of them up by going through all."""
    items = b"".join(struct.pack(">L6x", 1 + item) for item in range(num))
    handler = _box(b"hdlr", bytes(8) + b"pict" + bytes(13))
    places = _box(b"iloc", b"\2\0\0\0\0\0" + struct.pack(">L", num) + items)
    return _box(b"ftyp", b"avif\0\0\0\0avifmif1miaf") + _box(b"meta", bytes(4) + handler + places)


def _tiff_of_one_strip(num: int = 5_000) -> bytes:
    """`num` strips, all of them the same MB, made of nothing but the beginnings of empty blocks."""
    width, rows = 30, 1
    deflate = zlib.compressobj(wbits=-15)
    empty = b"".join(deflate.compress(b"") + deflate.flush(zlib.Z_FULL_FLUSH) for _ in range(1))
    strip = b"\x78\x9c" + empty + b"\0\0\0\xff\xff" * 200_000 + zlib.compress(bytes(width * rows))[2:]
    at = 8 + 2 + 12 * 9 + 4
    tags = ((256, 1, width), (257, 1, rows * num), (258, 1, 8), (259, 1, 8), (262, 1, 1), (273, num, at), (277, 1, 1),
            (278, 1, rows), (279, num, at + 4 * num))  # fmt: skip
    directory = b"".join(struct.pack("<HHLL", tag, 4, count, value) for tag, count, value in tags)
    head = b"II*\0" + struct.pack("<LH", 8, len(tags)) + directory + bytes(4)
    return head + struct.pack("<L", at + 8 * num) * num + struct.pack("<L", len(strip)) * num + strip


SLOW = {"an AVIF of many items": _avif_of_items, "a TIFF of many strips that are the same": _tiff_of_one_strip}


@pytest.mark.parametrize("kind", SLOW)
def test_a_picture_that_a_library_reads_at_once_is_refused_by_name_when_its_time_is_over(
    decoders: DecoderProcesses, kind: str
) -> None:
    with pytest.raises(ImageError, match="takes more than 0 s of CPU") as caught:
        decoders.decode(SLOW[kind](), SOON)
    assert caught.value.kind == "unsupported_format"
    assert not caught.value.retryable


@pytest.mark.parametrize("form", ["WEBP", "AVIF", "TIFF", "JPEG", "PNG"])
def test_it_is_decoded_as_it_would_be_here(decoders: DecoderProcesses, form: str) -> None:
    data = saved(Image.linear_gradient("L").convert("RGB"), form)
    assert decoders.decode(data, Limits()) == decode(data, Limits())


@pytest.mark.parametrize("large_picture_pixels", [10, 1_000])
def test_pictures_of_many_pixels_are_decoded_one_at_a_time(
    decoders: DecoderProcesses, large_picture_pixels: int
) -> None:
    limits = Limits(large_picture_pixels=large_picture_pixels)
    for _ in range(2):
        assert decoders.decode(saved(Image.new("RGB", (8, 8)), "WEBP"), limits).picture.width_px == 8


def test_what_cannot_be_read_is_refused_as_here(decoders: DecoderProcesses) -> None:
    with pytest.raises(ImageError) as caught:
        decoders.decode(saved(Image.new("RGB", (8, 8)), "TIFF")[:20], Limits())
    assert caught.value.kind == "corrupt"


@pytest.mark.parametrize(("ended_by", "kind"), [(signal.SIGSEGV, "corrupt"), (signal.SIGKILL, "timeout")])
def test_a_process_that_ends_while_it_decodes_costs_one_picture(ended_by: signal.Signals, kind: str) -> None:
    decoders = DecoderProcesses()
    raised: list[ImageError] = []
    thread = threading.Thread(target=_decode_for_ever, args=(decoders, raised))
    thread.start()
    until(lambda: _processes(), "a process")
    os.kill(_processes()[0], ended_by)
    thread.join(WAIT_S)
    assert [error.kind for error in raised] == [kind]
    assert decoders.decode(saved(Image.new("RGB", (8, 8)), "WEBP"), Limits()).picture.width_px == 8
    os.kill(_processes()[0], signal.SIGKILL)  # while it waits for the next
    until(lambda: not _processes(), "its end")
    assert decoders.decode(saved(Image.new("RGB", (8, 8)), "WEBP"), Limits()).picture.width_px == 8
    decoders.close()


def test_when_prelabel_stops_what_is_decoded_ends() -> None:
    decoders = DecoderProcesses()
    raised: list[ImageError] = []
    thread = threading.Thread(target=_decode_for_ever, args=(decoders, raised))
    thread.start()
    until(lambda: _processes(), "a process")
    decoders.close()
    thread.join(WAIT_S)
    assert raised[0].retryable
    until(lambda: not _processes(), "its end")
    with pytest.raises(ImageError):
        decoders.decode(saved(Image.new("RGB", (8, 8)), "WEBP"), Limits())


def _decode_for_ever(decoders: DecoderProcesses, raised: list[ImageError]) -> None:
    try:
        decoders.decode(_avif_of_items(1_000_000), NEVER)
    except ImageError as error:
        raised.append(error)


def _processes() -> list[int]:
    return [one.pid for one in multiprocessing.active_children() if one.name == "picture-decoder" and one.pid]
