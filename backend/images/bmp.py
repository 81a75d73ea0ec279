"""A BMP with bit masks of any kind as one with the masks that Pillow knows: 8 bits a channel.

Editors write 4:4:4:4, 1:5:5:5 and 10:10:10:2, and browsers show them all. Bytes to bytes, in bands. Nothing here
raises: what is no such BMP, or not a whole one, comes back as it is, and judging it is Pillow's part.
"""

from __future__ import annotations

import struct

from PIL import Image, ImageChops

_BITFIELDS, _ALPHA_BITFIELDS = 3, 6
_HEADERS = (40, 52, 56, 108, 124)
_USUAL = {
    16: ((0xF800, 0x7E0, 0x1F, 0), (0x7C00, 0x3E0, 0x1F, 0)),
    32: ((0xFF0000, 0xFF00, 0xFF, 0), (0xFF0000, 0xFF00, 0xFF, 0xFF000000), (0, 0, 0, 0)),
}
_BYTE_PLANES = {16: "LA", 32: "RGBA"}


def plain(data: bytes, max_pixels: int) -> bytes:
    """Return the BMP `data` with ordinary masks."""
    try:
        (offset, header, width, height, bits, compression) = struct.unpack_from("<10xLLll2xHL", data)
        masks = struct.unpack_from("<4L", data, 54)
    except struct.error:
        return data
    if compression not in (_BITFIELDS, _ALPHA_BITFIELDS) or bits not in (16, 32) or header not in _HEADERS:
        return data
    if header < 56 and compression == _BITFIELDS:
        masks = (*masks[:3], 0)
    rows, row_bytes = abs(height), (width * bits + 31) // 32 * 4
    is_whole = width > 0 and 0 < width * rows <= max_pixels and offset + rows * row_bytes <= len(data)
    if masks in _USUAL[bits] or not is_whole:
        return data
    mode = _BYTE_PLANES[bits]
    pixels = memoryview(data)[offset : offset + rows * row_bytes]
    planes = Image.frombytes(mode, (width, rows), pixels, "raw", mode, row_bytes).split()
    bgra = Image.merge("RGBA", [_channel(planes, masks[place]) for place in (2, 1, 0, 3)]).tobytes()
    ordinary = (0xFF0000, 0xFF00, 0xFF, 0xFF000000 if masks[3] else 0)
    info = struct.pack("<LllHHLLllLL4L52x", 108, width, height, 1, 32, _BITFIELDS, 0, 0, 0, 0, 0, *ordinary)
    return b"".join([struct.pack("<2sL4xL", b"BM", 0, 14 + len(info)), info, bgra])


def _channel(planes: tuple[Image.Image, ...], mask: int) -> Image.Image:
    """0..255 of what `mask` takes of each pixel, whose bytes are in `planes`, the lowest first: of more than eight bits
    the highest eight. Without its mask alpha is left 0, and nobody reads it."""
    low = (mask & -mask).bit_length() - 1 if mask else 0
    shift = max(low, mask.bit_length() - 8)
    most = mask >> shift or 1
    channel = Image.new("L", planes[0].size)
    for place, plane in enumerate(planes):
        taken = [((value << 8 * place) & mask) >> shift for value in range(256)]
        if any(taken):
            channel = ImageChops.add(channel, plane.point(taken))
    return channel.point([min(value, most) * 255 // most for value in range(256)])
