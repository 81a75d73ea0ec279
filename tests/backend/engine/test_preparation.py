"""Preparing pictures in threads: each for itself, in the order of who waits, and nothing left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from backend.engine.image_sizes import Grid
from backend.engine.messages import Picture, Submit
from backend.engine.preparation import MAX_PICTURES_AT_ONCE, Preparation
from backend.engine.prompts import Prompt
from label_config.schema import LabelSchema, RatingField
from tests.limits import WAIT_S

SCHEMA = LabelSchema((RatingField("stars", "pic"),), "pic", "photo")
PROMPT = Prompt((1,), (2, 3), Grid(1, 2))


def request(request_id: int, *, interactive: bool = False) -> Submit:
    return Submit(SCHEMA, "", Picture(1, 1, b"rgb"), interactive=interactive, request_id=request_id)


@dataclass
class Bench:
    """Names the steps a picture went through; can be told to wait, or to fail for some pictures."""

    unreadable: set[int] = field(default_factory=set)
    unencodable: set[int] = field(default_factory=set)
    may_read: threading.Event = field(default_factory=threading.Event)
    may_encode: threading.Event = field(default_factory=threading.Event)
    reading: threading.Event = field(default_factory=threading.Event)
    encoding: threading.Event = field(default_factory=threading.Event)
    read: list[int] = field(default_factory=list)
    passes: list[list[int]] = field(default_factory=list)

    def to_patches(self, submitted: Submit, prompt: Prompt) -> int:
        assert prompt is PROMPT
        self.reading.set()
        assert self.may_read.wait(WAIT_S)
        self.read.append(submitted.request_id)
        if submitted.request_id in self.unreadable:
            raise ValueError(f"picture {submitted.request_id} is no picture")
        return submitted.request_id

    def encode(self, patches: list[int], grids: list[Grid]) -> list[str]:
        assert grids == [PROMPT.grid] * len(patches)
        self.encoding.set()
        assert self.may_encode.wait(WAIT_S)
        self.passes.append(list(patches))
        if bad := self.unencodable & set(patches):
            raise RuntimeError(f"cannot encode {min(bad)}")
        return [f"tokens of {number}" for number in patches]


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def make(bench: Bench) -> Iterator[Callable[..., Preparation]]:
    """Make what is tested; afterwards no thread of it may be left."""
    before = set(threading.enumerate())
    made: list[Preparation] = []

    def build(*, encode: bool, num_threads: int = 2, held: bool = False) -> Preparation:
        if not held:
            bench.may_read.set()
            bench.may_encode.set()
        made.append(Preparation(bench.to_patches, bench.encode if encode else None, num_threads))
        return made[-1]

    yield build
    bench.may_read.set()
    bench.may_encode.set()
    for prepared in made:
        prepared.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(WAIT_S)
    assert set(threading.enumerate()) <= before


Make = Callable[..., Preparation]
BOTH = pytest.mark.parametrize("encode", [False, True], ids=["patches only", "with the vision tower"])


@BOTH
@pytest.mark.parametrize("interactive", [False, True], ids=["bulk", "interactive"])
def test_what_was_prepared_is_handed_over_once(make: Make, *, encode: bool, interactive: bool) -> None:
    prepared = make(encode=encode)
    prepared.start(request(5, interactive=interactive), PROMPT)
    assert (5 in prepared, 6 in prepared, len(prepared)) == (True, False, 1)
    assert prepared.take(5) == ("tokens of 5" if encode else 5)
    assert (5 in prepared, len(prepared)) == (False, 0)
    with pytest.raises(KeyError):
        prepared.take(5)


@BOTH
def test_many_pictures_keep_their_own_results(make: Make, *, encode: bool) -> None:
    prepared = make(encode=encode)
    for number in range(40):
        prepared.start(request(number, interactive=number % 7 == 0), PROMPT)
    results: list[Any] = [prepared.take(number) for number in reversed(range(40))]
    assert results == [f"tokens of {n}" if encode else n for n in reversed(range(40))]
    assert len(prepared) == 0


@BOTH
def test_an_unreadable_picture_fails_alone(make: Make, bench: Bench, *, encode: bool) -> None:
    bench.unreadable = {2}
    prepared = make(encode=encode)
    for number in (1, 2, 3):
        prepared.start(request(number), PROMPT)
    with pytest.raises(ValueError, match="picture 2 is no picture"):
        prepared.take(2)
    assert [prepared.take(1), prepared.take(3)] == (["tokens of 1", "tokens of 3"] if encode else [1, 3])


def test_when_no_picture_is_readable_the_vision_tower_is_left_alone(make: Make, bench: Bench) -> None:
    bench.unreadable = {1, 2}
    prepared = make(encode=True)
    for number in (1, 2):
        prepared.start(request(number), PROMPT)
        with pytest.raises(ValueError, match=f"picture {number}"):
            prepared.take(number)
    assert bench.passes == []


def test_a_pass_that_fails_is_repeated_one_by_one(make: Make, bench: Bench) -> None:
    bench.unencodable, bench.unreadable = {3}, {4}
    prepared = make(encode=True, held=True)
    bench.may_read.set()
    prepared.start(request(0), PROMPT)
    assert bench.encoding.wait(WAIT_S)  # the others gather behind it
    for number in (1, 2, 3, 4, 5):
        prepared.start(request(number), PROMPT)
    bench.may_encode.set()
    assert [prepared.take(number) for number in (0, 1, 2, 5)] == [f"tokens of {n}" for n in (0, 1, 2, 5)]
    with pytest.raises(RuntimeError, match="cannot encode 3"):
        prepared.take(3)
    with pytest.raises(ValueError, match="picture 4"):
        prepared.take(4)
    assert bench.passes == [[0], [1, 2, 3, 5], [1], [2], [3], [5]]


def test_people_who_wait_are_encoded_first_and_a_pass_has_a_limit(make: Make, bench: Bench) -> None:
    prepared = make(encode=True, held=True)
    bench.may_read.set()
    prepared.start(request(0), PROMPT)
    assert bench.encoding.wait(WAIT_S)
    for number in range(1, MAX_PICTURES_AT_ONCE + 3):
        prepared.start(request(number, interactive=number == 9), PROMPT)
    bench.may_encode.set()
    for number in range(MAX_PICTURES_AT_ONCE + 3):
        prepared.take(number)
    assert bench.passes == [[0], [9, 1, 2, 3, 4, 5, 6, 7], [8, 10]]


def test_an_interactive_picture_is_read_while_all_bulk_threads_are_busy(make: Make, bench: Bench) -> None:
    prepared = make(encode=False, num_threads=1, held=True)
    prepared.start(request(1), PROMPT)
    assert bench.reading.wait(WAIT_S)
    bench.reading.clear()
    prepared.start(request(2, interactive=True), PROMPT)
    assert bench.reading.wait(WAIT_S)
    bench.may_read.set()
    assert [prepared.take(2), prepared.take(1)] == [2, 1]


@BOTH
def test_a_picture_discarded_before_its_turn_is_never_read(make: Make, bench: Bench, *, encode: bool) -> None:
    prepared = make(encode=encode, num_threads=1, held=True)
    prepared.start(request(1), PROMPT)
    assert bench.reading.wait(WAIT_S)
    prepared.start(request(2), PROMPT)
    prepared.start(request(3), PROMPT)
    prepared.discard(2)
    assert (2 in prepared, len(prepared)) == (False, 2)
    bench.may_read.set()
    bench.may_encode.set()
    prepared.take(1)
    prepared.take(3)
    assert bench.read == [1, 3]
    assert not any(2 in together for together in bench.passes)


@pytest.mark.parametrize("moment", ["read", "encoded"])
def test_discarding_a_picture_while_it_is_worked_on_harms_nobody(make: Make, bench: Bench, moment: str) -> None:
    prepared = make(encode=True, held=True)
    if moment == "encoded":
        bench.may_read.set()
    prepared.start(request(1), PROMPT)
    assert (bench.reading if moment == "read" else bench.encoding).wait(WAIT_S)
    prepared.discard(1)
    assert 1 not in prepared
    prepared.start(request(2), PROMPT)
    bench.may_read.set()
    bench.may_encode.set()
    assert prepared.take(2) == "tokens of 2"


def test_discarding_what_was_taken_or_never_started_does_nothing(make: Make) -> None:
    prepared = make(encode=True)
    prepared.start(request(1), PROMPT)
    prepared.take(1)
    prepared.discard(1)
    prepared.discard(77)
    assert len(prepared) == 0


def test_discarding_at_random_moments_loses_no_other_picture(make: Make) -> None:
    prepared = make(encode=True, num_threads=4)
    for number in range(200):
        prepared.start(request(number, interactive=number % 3 == 0), PROMPT)
        if number % 2:
            prepared.discard(number - number % 5)
    left = [number for number in range(200) if number in prepared]
    assert [prepared.take(number) for number in left] == [f"tokens of {number}" for number in left]


@BOTH
def test_waiting_has_a_limit(make: Make, bench: Bench, *, encode: bool) -> None:
    prepared = make(encode=encode, held=True)
    prepared.start(request(1), PROMPT)
    assert bench.reading.wait(WAIT_S)
    with pytest.raises(TimeoutError):
        prepared.take(1, 0.01)
    assert len(prepared) == 0
