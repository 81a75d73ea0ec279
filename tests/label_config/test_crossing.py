"""Values that cross the border of a process, and pickles of one that was taken over."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import NamedTuple

import pytest

from label_config import schema
from label_config.crossing import kinds_of, read, written
from label_config.schema import LabelSchema, unpacked
from tests.label_config.test_schema import SCHEMA


class Pair(NamedTuple):
    left: int
    right: str


@dataclass(frozen=True, slots=True)
class Slotted:
    pair: Pair
    more: tuple[Slotted, ...] = ()


@dataclass(frozen=True)
class Plain(Slotted):
    name: str = "x"


class Refused(Exception):
    def __init__(self, why: str, *, after_s: float) -> None:
        super().__init__(why)
        self.after_s = after_s


KINDS = kinds_of([Pair, Slotted, Plain, Refused])


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, None, 2.5, "\u5b57", b"\0"], "b": (True, {7})},
        Pair(1, "one"),
        Plain(Pair(2, "two"), (Slotted(Pair(3, "three")), Slotted(Pair(4, "")))),
    ],
)
def test_a_value_comes_back(value: object) -> None:
    again = read(written(value, KINDS), KINDS)
    assert (again, type(again)) == (value, type(value))


def test_an_error_comes_back_with_all_it_says() -> None:
    again = read(written(Refused("too long", after_s=3.0), KINDS), KINDS)
    assert (type(again), again.args, again.after_s) == (Refused, ("too long",), 3.0)


def named(name: str, module: str = __name__) -> bytes:
    return f"c{module}\n{name}\n".encode()


BUILT_ON_A_CLASS = b"(N" + named("Plain") + b"(N}\x8c\x04nameK\x07stbt."
"""(None, Plain), where `name` of the class is made 7."""


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(BUILT_ON_A_CLASS, id="a class that is changed"),
        pytest.param(named("Plain") + b"}\x8c\x04nameK\x07sb.", id="a class whose dict is changed"),
        pytest.param(named("Plain") + b")\x81.", id="a value that is made unfilled"),
        pytest.param(b"(i" + __name__.encode() + b"\nPlain\n.", id="a value that is made the oldest way"),
        pytest.param(named("Plain") + b")R.", id="too few parts"),
        pytest.param(named("Plain") + b"(K\x01K\x02K\x03K\x04tR.", id="too many parts"),
        pytest.param(named("Refused") + b")R.", id="an error without its parts"),
        pytest.param(named("system", "os") + b"\x8c\x04trueR\x85.", id="a function of another module"),
        pytest.param(named("Plain.__init__") + b".", id="a function of a class"),
        pytest.param(named("pytest") + b".", id="a module"),
        pytest.param(b"\x80\x04\x8c\x01xQ.", id="what stands elsewhere"),
        pytest.param(b"", id="nothing"),
        pytest.param(pickle.dumps(Pair(1, "")), id="a pickle of its own"),
    ],
)
def test_of_a_process_that_was_taken_over_no_class_is_changed_and_nothing_else_made(stream: bytes) -> None:
    before = dict(vars(Plain))
    try:
        found = read(stream, KINDS)
    except Exception:
        found = None
    assert dict(vars(Plain)) == before
    assert not isinstance(found, type | Plain | Refused)
    assert Plain(Pair(1, "")).name == "x"


def test_what_a_pickle_changes_of_what_makes_values_is_gone_with_it() -> None:
    changes = named("Pair") + b"(N}\x8c\x0c__defaults__K\x07\x85stb0"
    assert read(changes + named("Pair") + b"(K\x01K\x02tR.", KINDS) == (1, 2)
    assert read(written(Pair(1, "one"), KINDS), KINDS) == Pair(1, "one")


def test_a_schema_in_a_schema_changes_neither_its_class_nor_one_that_others_have() -> None:
    others = unpacked(SCHEMA.__reduce__()[1][0])
    before, fields = dict(vars(LabelSchema)), others.fields
    for inner in (
        b"(" + named("LabelSchema", schema.__name__) + b"(N}\x8c\x07captionK\x07stbt.",
        b"(" + named("unpacked", schema.__name__) + b"t.",
    ):
        with pytest.raises(Exception):  # noqa: B017, PT011 - what, is not ours to say
            unpacked(inner)
    assert dict(vars(LabelSchema)) == before
    assert others.fields is fields
