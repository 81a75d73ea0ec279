"""Inputs that are nearly right: bytes and JSON values, changed in a few places; the same ones for the same seed."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from typing import Any

MAX_BYTES = 60_000
_ODD_BYTES = (*(bytes([byte]) for byte in b"\0\xff\r\n\x1a'\"\\"), b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xe2\x80\xa8")
_ODD_NUMBERS = (b"-1", b"0", b"255", b"65536", b"2147483648", b"1e400", b"-0", b"nan", b"1e-300", b"9" * 400)
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**63, 10**30, -0.0, 1e308, float("inf"), float("nan"), "", " ", "\0", "\ud800", "=1+1",
    "a" * 5_000, "1", "null", "\u2028", "\u202ex", [], {}, [[]], [None], {"": None}, {"a": {"b": []}}, [[[[[]]]]],
)  # fmt: skip
_NUM_CHANGES = (1, 1, 1, 2, 6)


def mutated(chance: random.Random, corpus: Sequence[bytes], words: Sequence[bytes] = ()) -> bytes:
    """One of `corpus` with a few changes: bytes flipped, parts taken out, doubled, moved or swapped with another's."""
    data = bytearray(chance.choice(corpus))
    for _ in range(chance.choice(_NUM_CHANGES)):
        start, end = sorted((chance.randint(0, len(data)), chance.randint(0, len(data))))
        end = min(end, start + chance.choice((1, 4, 40, 4_000)))
        match chance.randrange(7):
            case 0 if data:
                data[chance.randrange(len(data))] = chance.randrange(256)
            case 1:
                del data[start:end]
            case 2:
                data[start:start] = data[start:end] * chance.choice((1, 2, 50))
            case 3:
                data[start:end] = chance.choice((*_ODD_BYTES, *_ODD_NUMBERS))
            case 4 if words:
                data[start : start if chance.random() < 0.5 else end] = chance.choice(words)
            case 5:
                other = chance.choice(corpus)
                place = chance.randint(0, len(other))
                data[start:end] = other[place : place + chance.choice((4, 40, 4_000))]
            case 6:
                data[start:] = b""
        del data[MAX_BYTES:]
    return bytes(data)


def mutated_value(chance: random.Random, corpus: Sequence[Any]) -> Any:
    """One of `corpus`, values as JSON has them, in which a few are others, gone, doubled or deeper."""
    holder = [copy.deepcopy(chance.choice(corpus))]
    for _ in range(chance.choice(_NUM_CHANGES)):
        inner, key = _place(chance, holder)
        match chance.randrange(5):
            case 0 | 1:
                inner[key] = copy.deepcopy(chance.choice(ODD_VALUES))
            case 2:
                inner[key] = copy.deepcopy(_at(*_place(chance, holder)))
            case 3:
                inner[key] = [inner[key]] if chance.random() < 0.5 else {"value": inner[key]}
            case 4 if isinstance(inner, dict):
                inner[chance.choice(("id", "data", "value", "type", "", "0"))] = inner.pop(key)
    return holder[0]


def _at(inner: Any, key: Any) -> Any:
    return inner[key]


def _place(chance: random.Random, holder: list[Any]) -> tuple[Any, Any]:
    """Somewhere in the tree: what holds the value, and under what."""
    inner: Any = holder
    key: Any = 0
    for _ in range(chance.randrange(8)):
        value = inner[key]
        if not isinstance(value, dict | list) or not value:
            break
        inner, key = value, chance.choice(list(value)) if isinstance(value, dict) else chance.randrange(len(value))
    return inner, key
