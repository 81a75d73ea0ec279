"""A HEIC that is laid together from parts is refused by what its parts take, not by what it shows."""

from __future__ import annotations

import struct

import pytest
from PIL import Image

from backend.errors import ImageError
from backend.images import Limits
from backend.images.decode import decode
from backend.images.forms import prepare
from backend.images.heic import num_decoded_pixels
from backend.images.sniff import Sniffed
from tests.backend.images.pictures import saved

SIDE = 100


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">L", 8 + len(content)) + kind + content


def _full(kind: bytes, version: int, content: bytes) -> bytes:
    return _box(kind, struct.pack(">L", version << 24) + content)


def _boxes(data: bytes) -> dict[bytes, bytes]:
    found, at = {}, 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        found[data[at + 4 : at + 8]] = data[at + 8 : at + length]
        at += length
    return found


def of_parts(kind: bytes, num: int, shown: int, *, nested: int = 0) -> bytes:
    """A picture of `shown` pixels a side, made of `num` times the same picture of SIDE; or of a picture so made, and so
    on."""
    prepare(Sniffed("HEIC", "HEIF"))
    one = _boxes(saved(Image.new("RGB", (SIDE, SIDE), (9, 99, 200)), "HEIF"))
    codec = _boxes(_boxes(_boxes(one[b"meta"][4:])[b"iprp"])[b"ipco"])[b"hvcC"]
    rows = num if kind == b"grid" else 1
    if kind == b"grid":
        layout = struct.pack(">BBBBHH", 0, 0, rows - 1, 0, shown, shown)
    else:
        layout = bytes(2) + struct.pack(">4HHH", 0, 0, 0, 65535, shown, shown) + bytes(4 * num)
    made = range(2, 3 + nested)
    kinds = [(1, b"hvc1"), *((item, kind) for item in made)]
    items = b"".join(_full(b"infe", 2, struct.pack(">HH", item, 0) + what + b"\0") for item, what in kinds)
    dimg = b"".join(_box(b"dimg", struct.pack(f">HH{num}H", item, num, *[item - 1] * num)) for item in made)
    size = [_box(b"ispe", struct.pack(">LLL", 0, side, side)) for side in (SIDE, shown)]
    places = b"".join(
        struct.pack(">HB", item, 1 + (item == 1)) + (b"\x81\x02" if item == 1 else b"\x03") for item, _ in kinds
    )
    properties = _box(b"ipco", _box(b"hvcC", codec) + b"".join(size))
    properties += _full(b"ipma", 0, struct.pack(">L", len(kinds)) + places)

    def meta(at: int) -> bytes:
        where = struct.pack(">HHHLL", 1, 0, 1, at, len(one[b"mdat"]))
        where += b"".join(struct.pack(">HHHLL", n, 0, 1, at + len(one[b"mdat"]), len(layout)) for n in made)
        return _full(
            b"meta", 0,
            _full(b"hdlr", 0, bytes(4) + b"pict" + bytes(13)) + _full(b"pitm", 0, struct.pack(">H", made[-1]))
            + _full(b"iloc", 0, struct.pack(">BBH", 0x44, 0, len(kinds)) + where)
            + _full(b"iinf", 0, struct.pack(">H", len(kinds)) + items) + _full(b"iref", 0, dimg)
            + _box(b"iprp", properties),
        )  # fmt: skip

    head = _box(b"ftyp", b"heic\0\0\0\0mif1heic")
    return head + meta(len(head) + len(meta(0)) + 8) + _box(b"mdat", one[b"mdat"] + layout)


@pytest.mark.parametrize(("kind", "shown"), [(b"grid", SIDE), (b"iovl", 64)])
@pytest.mark.parametrize(("num", "nested", "times"), [(1, 0, 1), (40, 0, 40), (40, 2, 40**3)])
def test_the_parts_of_a_picture_are_counted_as_often_as_they_are_named(
    kind: bytes, shown: int, num: int, nested: int, times: int
) -> None:
    assert num_decoded_pixels(of_parts(kind, num, shown, nested=nested)) == times * SIDE**2


@pytest.mark.parametrize("kind", [b"grid", b"iovl"])
def test_a_small_picture_of_too_many_parts_is_refused_before_one_is_decoded(kind: bytes) -> None:
    limits = Limits(max_pixels=5 * SIDE**2)
    assert decode(of_parts(kind, 9, 64), limits).picture.rgb
    with pytest.raises(ImageError, match="limit for HEIC") as caught:
        decode(of_parts(kind, 11, 64), limits)
    assert caught.value.kind == "too_many_pixels"


def test_what_does_not_say_how_large_its_parts_are_is_larger_than_any_limit() -> None:
    whole = of_parts(b"grid", 3, 64)
    assert num_decoded_pixels(whole) == 3 * SIDE**2
    assert num_decoded_pixels(whole.replace(b"ispe", b"free")) > 2**60
    assert num_decoded_pixels(of_parts(b"grid", 3, 64, nested=9)) > 2**60
