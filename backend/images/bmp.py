"""A BMP with bit masks of any kind as one with the masks that Pillow knows: 8 bits a channel.

Editors write 4:4:4:4, 1:5:5:5 and 10:10:10:2, and browsers show them all. Bytes to bytes, in bands. Nothing here
raises: what is no such BMP, or not a whole one, comes back as it is, and judging it is Pillow's part.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BITFIELDS, _ALPHA_BITFIELDS = 3, 6
_HEADERS = (40, 52, 56, 108, 124)
_USUAL = {
    16: ((0xF800, 0x7E0, 0x1F, 0), (0x7C00, 0x3E0, 0x1F, 0)),
    32: ((0xFF0000, 0xFF00, 0xFF, 0), (0xFF0000, 0xFF00, 0xFF, 0xFF000000), (0, 0, 0, 0)),
}
_BAND_PIXELS = 1_000_000


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
    import numpy as np  # many MB of each process that decodes, and such pictures are rare

    pixels = np.frombuffer(data, f"<u{bits // 8}", rows * row_bytes * 8 // bits, offset).reshape(rows, -1)[:, :width]
    band = max(1, _BAND_PIXELS // width)
    bands = [_bgra(pixels[top : top + band], masks).tobytes() for top in range(0, rows, band)]
    ordinary = (0xFF0000, 0xFF00, 0xFF, 0xFF000000 if masks[3] else 0)
    info = struct.pack("<LllHHLLllLL4L52x", 108, width, height, 1, 32, _BITFIELDS, 0, 0, 0, 0, 0, *ordinary)
    return b"".join([struct.pack("<2sL4xL", b"BM", 0, 14 + len(info)), info, *bands])


def _bgra(pixels: NDArray[np.unsignedinteger], masks: tuple[int, ...]) -> NDArray[np.uint8]:
    """[rows, columns] of 16 or 32 bits -> [rows, columns, 4]. Without its mask alpha is left 0, and nobody reads it."""
    import numpy as np

    out = np.zeros((*pixels.shape, 4), np.uint8)
    for channel, mask in zip((2, 1, 0, 3), masks, strict=True):
        if mask:
            shift = (mask & -mask).bit_length() - 1
            values = (pixels & mask).astype(np.uint64) >> np.uint64(shift)
            out[..., channel] = values * np.uint64(255) // np.uint64(mask >> shift)
    return out
