"""Two facts read from a file's bytes by hand: the EXIF orientation, and how many frames or pages there are.

By hand because Pillow decodes or parses every frame to count them (a hostile file has a million), takes an orientation
from XMP too, which no browser does, and warns on damaged EXIF. Never raises: what cannot be read is 1.
"""

from __future__ import annotations

import struct

MAX_FRAMES = 1000
_MAX_STEPS = 200_000
_ORIENTATION_TAG = 0x0112
_SHORT = 3


def exif_orientation(exif: bytes) -> int:
    """Return EXIF orientation 1..8 from an EXIF block, with or without its `Exif\\0\\0` mark; 1 if there is none."""
    exif = exif.removeprefix(b"Exif\x00\x00")
    order = _byte_order(exif)
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


def count_gif_frames(data: bytes) -> int:
    """Walk the blocks of a GIF (GIF89a specification, section 17 on); counts up to MAX_FRAMES."""
    num_frames = 0
    try:
        position = 13 + _colour_table_bytes(data[10])
        for _ in range(_MAX_STEPS):
            kind = data[position]
            if kind == 0x21:  # extension: label, then blocks
                position = _after_blocks(data, position + 2)
            elif kind == 0x2C and num_frames < MAX_FRAMES:  # image descriptor, colour table, LZW size, then blocks
                num_frames += 1
                position = _after_blocks(data, position + 11 + _colour_table_bytes(data[position + 9]))
            else:
                break
    except IndexError:
        pass
    return max(num_frames, 1)


def count_tiff_pages(data: bytes) -> int:
    """Follow the chain of directories of a TIFF or BigTIFF; counts up to MAX_FRAMES."""
    order = _byte_order(data)
    if order is None:
        return 1
    big = data[2:4] in (b"+\x00", b"\x00+")
    offset_format, count_format, entry_bytes = (order + "Q", order + "Q", 20) if big else (order + "L", order + "H", 12)
    seen: set[int] = set()
    try:
        (offset,) = struct.unpack_from(offset_format, data, 8 if big else 4)
        while offset and offset not in seen and len(seen) < MAX_FRAMES:
            (num_entries,) = struct.unpack_from(count_format, data, offset)
            seen.add(offset)
            after = offset + struct.calcsize(count_format) + entry_bytes * num_entries
            (offset,) = struct.unpack_from(offset_format, data, after)
    except (struct.error, OverflowError):
        pass
    return max(len(seen), 1)


def _byte_order(data: bytes) -> str | None:
    return {b"II": "<", b"MM": ">"}.get(data[:2])


def _colour_table_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _after_blocks(data: bytes, position: int) -> int:
    for _ in range(_MAX_STEPS):
        size = data[position]
        position += 1 + size
        if size == 0:
            return position
    raise IndexError
