"""The ring of instructions: what it says is kept is intact, whatever was placed since."""

from __future__ import annotations

import itertools

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from backend.engine.prefixes import PrefixArea
from tests.limits import examples


def prefix(name: int, length: int) -> tuple[int, ...]:
    return (name,) * length


def put(area: PrefixArea, ids: tuple[int, ...]) -> int:
    offset = area.place(ids)
    assert offset is not None
    area.keep(ids, offset)
    return offset


def test_a_prefix_is_found_only_once_it_is_kept() -> None:
    area = PrefixArea(10)
    ids = prefix(1, 4)
    offset = area.place(ids)
    assert area.find(ids) is None
    assert offset == 0
    area.keep(ids, offset)
    assert area.find(ids) == 0


def test_prefixes_lie_behind_each_other_until_the_end_of_the_area() -> None:
    area = PrefixArea(10)
    assert [put(area, prefix(name, 3)) for name in range(3)] == [0, 3, 6]
    assert put(area, prefix(3, 2)) == 0


def test_the_oldest_are_overwritten_and_forgotten_first() -> None:
    area = PrefixArea(10)
    for name in range(3):
        put(area, prefix(name, 3))
    put(area, prefix(9, 4))
    found = [area.find(prefix(name, 3)) for name in range(3)]
    assert found == [None, None, 6]
    assert area.find(prefix(9, 4)) == 0


def test_a_prefix_that_fills_the_area_exactly_is_kept_alone() -> None:
    area = PrefixArea(10)
    put(area, prefix(1, 3))
    assert put(area, prefix(2, 10)) == 0
    assert area.find(prefix(1, 3)) is None


def test_a_prefix_longer_than_the_area_has_no_place_and_drives_nothing_out() -> None:
    area = PrefixArea(10)
    put(area, prefix(1, 3))
    assert area.place(prefix(2, 11)) is None
    assert area.find(prefix(1, 3)) == 0


def test_an_area_of_no_size_keeps_nothing() -> None:
    assert PrefixArea(0).place((1,)) is None


def test_prefixes_that_differ_in_their_last_token_are_two() -> None:
    area = PrefixArea(10)
    put(area, (1, 2, 3))
    assert area.find((1, 2, 4)) is None
    assert area.find((1, 2)) is None


class Ring(RuleBasedStateMachine):
    """The memory as the runner writes it: each position holds the name of the prefix written there last."""

    @initialize(size=st.integers(0, 40))
    def make(self, size: int) -> None:
        self.area = PrefixArea(size)
        self.memory: list[tuple[int, int] | None] = [None] * size
        self.seen: set[tuple[int, ...]] = set()

    @rule(name=st.integers(1, 8), length=st.integers(1, 45), fails=st.sampled_from([False, False, False, True]))
    def read(self, name: int, length: int, *, fails: bool) -> None:
        """As `Runner._put_prefix`; computing the keys may fail halfway."""
        ids = prefix(name, length)
        if self.area.find(ids) is not None:
            return
        offset = self.area.place(ids)
        assert (offset is None) == (length > len(self.memory))
        if offset is None:
            return
        assert 0 <= offset <= len(self.memory) - length
        written = length // 2 if fails else length
        for i in range(written):
            self.memory[offset + i] = (name * 100 + length, i)
        if not fails:
            self.area.keep(ids, offset)
            self.seen.add(ids)
            assert self.area.find(ids) == offset

    @invariant()
    def what_is_found_is_intact(self) -> None:
        ranges = []
        for ids in getattr(self, "seen", ()):
            offset = self.area.find(ids)
            if offset is not None:
                own = self.memory[offset : offset + len(ids)]
                assert own == [(ids[0] * 100 + len(ids), i) for i in range(len(ids))]
                ranges.append((offset, offset + len(ids)))
        ranges.sort()
        assert all(left[1] <= right[0] for left, right in itertools.pairwise(ranges))


Ring.TestCase.settings = settings(
    max_examples=examples(20, 300), stateful_step_count=30, deadline=None, derandomize=True
)
TestAnySequenceOfPrefixes = Ring.TestCase
