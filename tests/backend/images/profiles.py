"""ICC profiles, made from the numbers that define them (ICC.1:2001-04)."""

from __future__ import annotations

import itertools
import math
import struct

SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
"""XYZ of red, green and blue under the white of profiles, D50."""
DISPLAY_P3 = ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841))
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
_WHITE = (0.9642, 1.0, 0.8249)


def _fixed(*numbers: float) -> bytes:
    return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)


def _curve(gamma: float | tuple[float, ...]) -> bytes:
    if isinstance(gamma, float):
        return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))
    return b"para" + bytes(4) + struct.pack(">HH", 3, 0) + _fixed(*gamma)


def _profile(space: bytes, connection: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr") -> bytes:
    text = b"test"
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text) + 1) + text + bytes(79),
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": b"XYZ " + bytes(4) + _fixed(*_WHITE),
        **tags,
    }
    start, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(">I4xI4s4s4s12x4s", start + len(body), 0x02100000, kind, space, connection, b"acsp")
    head = head.ljust(68, b"\0") + _fixed(*_WHITE)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def rgb_profile(primaries: tuple[tuple[float, ...], ...], gamma: float | tuple[float, ...] = SRGB_CURVE) -> bytes:
    tags = {
        name: b"XYZ " + bytes(4) + _fixed(*xyz)
        for name, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)
    }
    return _profile(b"RGB ", b"XYZ ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(gamma)))


def with_elements(profile: bytes, name: bytes, num: int) -> bytes:
    """`profile` with a table, called `name`, of `num` processing elements, which are all the same curves."""
    curve = b"curf" + bytes(4) + struct.pack(">HH", 1, 0) + b"parf" + bytes(8) + struct.pack(">4f", 1.01, 1, 0, 0)
    element = b"cvst" + bytes(4) + struct.pack(">HH6L", 3, 3, *[36, len(curve)] * 3) + curve
    at = 16 + 8 * num
    table = b"mpet" + bytes(4) + struct.pack(">HHL", 3, 3, num) + struct.pack(">LL", at, len(element)) * num + element
    (num_tables,) = struct.unpack_from(">I", profile, 128)
    end = 132 + 12 * num_tables
    body = profile[end:] + bytes(-len(profile) % 4)
    places = b"".join(
        struct.pack(">4sII", name, at + 12, length)
        for name, at, length in struct.iter_unpack(">4sII", profile[132:end])
    )
    places += struct.pack(">4sII", name, end + 12 + len(body), len(table))
    whole = profile[4:128] + struct.pack(">I", num_tables + 1) + places + body + table
    return struct.pack(">I", 4 + len(whole)) + whole


def grey_profile(gamma: float) -> bytes:
    return _profile(b"GRAY", b"XYZ ", {b"kTRC": _curve(gamma)})


def cmyk_profile() -> bytes:
    """A press, measured at no and at full ink; between them colours change evenly, in steps of an eighth."""
    corners = {
        (0, 0, 0): (95, 0, 4),
        (1, 0, 0): (55, -37, -50),
        (0, 1, 0): (48, 74, -3),
        (0, 0, 1): (89, -5, 93),
        (1, 1, 0): (24, 22, -46),
        (1, 0, 1): (50, -68, 33),
        (0, 1, 1): (47, 68, 48),
        (1, 1, 1): (23, 0, 0),
    }
    steps = [step / 8 for step in range(9)]
    grid = b""
    for *inks, black in itertools.product(steps, repeat=4):  # black changes fastest
        lab = [0.0, 0.0, 0.0]
        for corner, colour in corners.items():
            share = math.prod(ink if is_full else 1 - ink for ink, is_full in zip(inks, corner, strict=True))
            lab = [sum_ + share * part * (1 - 0.85 * black) for sum_, part in zip(lab, colour, strict=True)]
        grid += bytes([round(lab[0] * 2.55), round(lab[1]) + 128, round(lab[2]) + 128])
    straight = bytes(range(256))
    matrix = _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    table = b"mft1" + bytes(4) + bytes([4, 3, len(steps), 0]) + matrix + straight * 4 + grid + straight * 3
    return _profile(b"CMYK", b"Lab ", {b"A2B0": table}, b"prtr")
