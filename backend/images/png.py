"""A PNG without the chunks that a picture does not need, as browsers read it: one damaged comment costs no picture.

Pillow refuses a file for a wrong checksum in any chunk, and for text or a colour profile that inflates to more than
1 MiB. Here comments are left out unread, what is left out for its checksum is remarked upon, and the profile is
inflated apart, no further than colours.MAX_PROFILE_BYTES. Chunks that make the picture stay as they are, damaged or
not: judging them is Pillow's part. Nothing here raises.
"""

from __future__ import annotations

import struct
import zlib

from backend.images.colours import MAX_PROFILE_BYTES
from backend.images.decoder_remarks import remark

_SIGNATURE_BYTES = 8
_NEEDED = frozenset((b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT"))  # of those that a reader may leave out
_PROFILE = b"iCCP"


def cleaned(data: bytes) -> tuple[bytes, bytes | None]:
    """Return the PNG `data` without what is not needed, and its colour profile if it has one that can be read."""
    view, kept, profile = memoryview(data), bytearray(), None
    has_profile = False
    start, position = 0, _SIGNATURE_BYTES
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">L", data, position)
        kind, end = data[position + 4 : position + 8], position + 12 + length
        if end > len(data):  # cut off: Pillow says so
            break
        if kind[0] & 0x20:  # lower case: a reader may leave it out
            is_whole = kind in _NEEDED or kind == _PROFILE
            if is_whole and zlib.crc32(view[position + 4 : end - 4]) != struct.unpack_from(">L", data, end - 4)[0]:
                remark(f"its {kind.decode('latin-1')} chunk is damaged and left out")
                is_whole = False
            if is_whole and kind == _PROFILE and not has_profile:  # the first counts, whatever it is
                has_profile, profile = True, _inflated(data[position + 8 : end - 4])
            if not is_whole or kind == _PROFILE:
                kept += view[start:position]
                start = end
        position = end
        if kind == b"IEND":
            break
    if not start:
        return data, None
    kept += view[start:]
    return bytes(kept), profile


def _inflated(chunk: bytes) -> bytes | None:
    """`chunk`: a name, a zero, the method (zero), and the compressed profile."""
    body = chunk.partition(b"\0")[2][1:]
    inflater = zlib.decompressobj()
    try:
        profile = inflater.decompress(body, MAX_PROFILE_BYTES)
    except zlib.error:
        remark("its colour profile is left out: it is damaged")
        return None
    if inflater.unconsumed_tail:
        remark(f"its colour profile is left out: it has more than {MAX_PROFILE_BYTES // 2**20} MB")
        return None
    return profile
