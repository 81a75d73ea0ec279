"""Blocks of the KV pool: nobody holds another's, instructions are shared, and nothing is lost."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from backend.engine.kv_blocks import BLOCK_TOKENS, Instruction, KvBlocks, blocks_for
from tests.limits import examples


def ids(name: int, num_blocks: int) -> tuple[int, ...]:
    return (name,) * (num_blocks * BLOCK_TOKENS)


@pytest.mark.parametrize(("num_tokens", "num_blocks"), [(0, 0), (1, 1), (16, 1), (17, 2), (4096, 256)])
def test_tokens_fill_whole_blocks(num_tokens: int, num_blocks: int) -> None:
    assert blocks_for(num_tokens) == num_blocks


def test_an_instruction_is_the_same_for_all_who_use_it_at_once() -> None:
    kv = KvBlocks(10)
    first = kv.share(ids(1, 3))
    assert (kv.find(ids(1, 3)), kv.num_free) == (first, 7)
    first.is_written = True
    assert kv.share(ids(1, 3)) is first
    assert (first.num_users, kv.num_free) == (2, 7)


def test_instructions_that_differ_in_their_last_token_are_two() -> None:
    kv = KvBlocks(10)
    first, other = kv.share(ids(1, 2)), kv.share((*ids(1, 2)[:-1], 9))
    assert not set(first.blocks) & set(other.blocks)


def test_an_instruction_that_nobody_uses_is_found_as_it_was_until_its_blocks_are_needed() -> None:
    kv = KvBlocks(10)
    first = kv.share(ids(1, 3))
    first.is_written = True
    kv.leave(first)
    assert (kv.find(ids(1, 3)), kv.num_free) == (None, 10)
    kv.take(7)
    again = kv.share(ids(1, 3))
    assert (again, again.is_written, kv.num_free) == (first, True, 0)
    kv.leave(again)
    assert sorted(kv.take(3)) == sorted(first.blocks)


def test_an_instruction_that_lost_its_blocks_is_written_anew() -> None:
    kv = KvBlocks(3)
    first = kv.share(ids(1, 3))
    first.is_written = True
    kv.leave(first)
    kv.give_back(kv.take(1))
    again = kv.share(ids(1, 3))
    assert again is not first
    assert not again.is_written


def test_the_instruction_unused_for_longest_loses_its_blocks_first() -> None:
    kv = KvBlocks(6)
    first, second = kv.share(ids(1, 2)), kv.share(ids(2, 2))
    kv.leave(second)
    kv.leave(first)
    kv.take(4)
    assert kv.share(ids(1, 2)) is first


def test_more_blocks_than_are_free_are_refused_and_none_is_taken() -> None:
    kv = KvBlocks(4)
    kv.share(ids(1, 2))
    with pytest.raises(ValueError, match="3 blocks are wanted and 2 are free"):
        kv.take(3)
    with pytest.raises(ValueError, match="5 blocks are wanted and 2 are free"):
        kv.share(ids(2, 5))
    assert kv.num_free == 2


class Users(RuleBasedStateMachine):
    """Any use. `content` stands for the pool: what was written in each block last, as by the runner."""

    @initialize(num_blocks=st.integers(0, 30))
    def make(self, num_blocks: int) -> None:
        self.kv = KvBlocks(num_blocks)
        self.taken: list[list[int]] = []
        self.shared: list[Instruction] = []
        self.content: dict[int, object] = {}

    @rule(count=st.integers(0, 12))
    def take(self, count: int) -> None:
        if count <= self.kv.num_free:
            self.taken.append(self.kv.take(count))
            self.content.update(dict.fromkeys(self.taken[-1], "a request's own"))

    @rule(name=st.integers(1, 4), num_blocks=st.integers(0, 8))
    def share(self, name: int, num_blocks: int) -> None:
        wanted = ids(name, num_blocks)
        is_used = self.kv.find(wanted) is not None
        assert is_used == any(one.token_ids == wanted for one in self.shared)
        free = self.kv.num_free
        if not is_used and num_blocks > free:
            return
        instruction = self.kv.share(wanted)
        assert self.kv.num_free == free - (0 if is_used else num_blocks)
        assert len(instruction.blocks) == num_blocks
        if not instruction.is_written:
            self.content.update({block: (wanted, place) for place, block in enumerate(instruction.blocks)})
            instruction.is_written = True
        self.shared.append(instruction)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        self.kv.give_back(self.taken.pop(data.draw(st.integers(0, len(self.taken) - 1))))

    @precondition(lambda self: self.shared)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        self.kv.leave(self.shared.pop(data.draw(st.integers(0, len(self.shared) - 1))))

    @invariant()
    def every_block_is_in_one_hand_and_instructions_stay_as_they_were_written(self) -> None:
        if not hasattr(self, "kv"):
            return
        instructions = {*self.shared}
        held = [block for blocks in self.taken for block in blocks]
        held += [block for instruction in instructions for block in instruction.blocks]
        assert len(set(held)) == len(held)
        assert set(held) <= set(range(self.kv.num_blocks))
        assert self.kv.num_free == self.kv.num_blocks - len(held)
        for instruction in instructions:
            assert instruction.num_users == self.shared.count(instruction)
            written = [self.content[block] for block in instruction.blocks]
            assert written == [(instruction.token_ids, place) for place in range(len(written))]

    def teardown(self) -> None:
        if hasattr(self, "kv"):
            for blocks in self.taken:
                self.kv.give_back(blocks)
            for instruction in self.shared:
                self.kv.leave(instruction)
            assert sorted(self.kv.take(self.kv.num_blocks)) == list(range(self.kv.num_blocks))


Users.TestCase.settings = settings(max_examples=examples(20, 300), stateful_step_count=30, deadline=None)
TestAnyUse = Users.TestCase
