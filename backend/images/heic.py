"""How many pixels a HEIC makes its decoder produce, from its boxes: a picture may be laid together from others, of
which each may be larger than the whole and may be named a thousand times (ISO/IEC 23008-12, `grid` and `iovl`).

libheif decodes each as often as it is named. Only what says so is read; judging the rest is the decoder's part. Raises
struct.error or IndexError where that is damaged.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator

_MAX_NESTED = 4


def num_decoded_pixels(data: bytes) -> int:
    """Those of the item that takes most; of one that does not say it, more than any limit."""
    meta = b"".join(content[4:] for kind, content in _boxes(data) if kind == b"meta")
    sizes, parts = _sizes(meta), _parts(meta)
    return max((_pixels(item, sizes, parts, 0) for item in {*sizes, *parts}), default=0)


def _pixels(item: int, sizes: dict[int, int], parts: dict[int, list[int]], depth: int) -> int:
    """More than any limit for what is nested too deeply, or in itself."""
    if depth > _MAX_NESTED:
        return sys.maxsize
    if item not in parts:
        return sizes.get(item, sys.maxsize)
    return sum(_pixels(part, sizes, parts, depth + 1) for part in parts[item])


def _boxes(data: bytes, *path: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each box of `data`, or of those inside all that `path` leads to."""
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">L4s", data, at)
        start = 8
        if length == 1:
            (length,), start = struct.unpack_from(">Q", data, at + 8), 16
        end = len(data) if length == 0 else at + length
        if length and length < start:
            return
        if not path:
            yield kind, data[at + start : end]
        elif kind == path[0]:
            yield from _boxes(data[at + start : end], *path[1:])
        at = end


def _parts(meta: bytes) -> dict[int, list[int]]:
    """Of each item that is made of others, those."""
    found: dict[int, list[int]] = {}
    for references in (content for kind, content in _boxes(meta) if kind == b"iref"):
        form = ">L" if references[0] else ">H"
        size = struct.calcsize(form)
        for kind, content in _boxes(references[4:]):
            if kind == b"dimg":
                (item,) = struct.unpack_from(form, content)
                (num,) = struct.unpack_from(">H", content, size)
                parts = struct.unpack_from(f">{num}{form[1]}", content, size + 2)
                found.setdefault(item, []).extend(parts)
    return found


def _sizes(meta: bytes) -> dict[int, int]:
    """Pixels of each item, of several sizes the largest."""
    properties = [
        width * height
        for kind, content in _boxes(meta, b"iprp", b"ipco")
        for width, height in [struct.unpack_from(">LL", content, 4) if kind == b"ispe" else (0, 0)]
    ]
    found: dict[int, int] = {}
    for kind, content in _boxes(meta, b"iprp"):
        if kind == b"ipma":
            for item, places in _associations(content):
                sizes = [properties[place - 1] for place in places if 0 < place <= len(properties)]
                if any(sizes):
                    found[item] = max(found.get(item, 0), *sizes)
    return found


def _associations(content: bytes) -> Iterator[tuple[int, list[int]]]:
    """Each item with the places of its properties, from 1."""
    item_form, place_form = ">L" if content[0] else ">H", ">H" if content[3] & 1 else ">B"
    item_size, place_size = struct.calcsize(item_form), struct.calcsize(place_form)
    mask = 0x7FFF if place_size == 2 else 0x7F
    (num_items,) = struct.unpack_from(">L", content, 4)
    at = 8
    for _ in range(num_items):
        (item,), num = struct.unpack_from(item_form, content, at), content[at + item_size]
        at += item_size + 1
        yield item, [struct.unpack_from(place_form, content, at + n * place_size)[0] & mask for n in range(num)]
        at += num * place_size
