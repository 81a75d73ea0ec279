"""The scheduler's rules of blocks and mixed steps, one example each."""

import pytest

from backend.engine.scheduler import Decode, Prefill, Scheduler
from tests.backend.engine.scheduler_rig import bulk, finish, full, person, scheduler, started, submit, turn, turns


def tokens_until_answered(planner: Scheduler, turns_before: int, num_steps: int) -> int:
    """The tokens that are computed from where 8 of 23 bulk requests start until a person has theirs.

    The person comes in the last of `turns_before` turns, and is answered after `num_steps` decode steps.
    """
    submit(planner, [bulk(number) for number in range(23)])
    turn(planner)
    finish(planner, *range(8))
    submit(planner, [bulk(number) for number in range(30, 50)])
    num_tokens = sum(tokens_of_turn(planner)[0] for _ in range(turns_before))
    planner.submit(person(99))
    while num_steps >= 0:  # its prefill is one more
        more, request_ids = tokens_of_turn(planner)
        num_tokens += more
        num_steps -= 99 in request_ids
    return num_tokens


def tokens_of_turn(planner: Scheduler) -> tuple[int, list[int]]:
    """How many tokens the next turn computes, and of which requests. A prompt has 10."""
    match planner.next_turn():
        case Prefill(slots, decoding):
            return 10 * len(slots) + len(decoding), [slot.request_id for slot in (*decoding, *slots)]
        case Decode(slots):
            return len(slots), [slot.request_id for slot in slots]
        case None:
            raise AssertionError("nothing runs or waits")


class TestMixedSteps:
    def test_bulk_that_starts_takes_along_those_who_run_where_they_are_many(self) -> None:
        planner = scheduler(mixed_from=2)
        for number, word in ((1, "prefill"), (2, "prefill"), (3, "mixed")):
            planner.submit(bulk(number))
            assert turn(planner) == (word, [*range(1, number + 1)] if word == "mixed" else [number])

    def test_nothing_is_mixed_beside_a_person(self) -> None:
        planner = scheduler(mixed_from=1)
        submit(planner, [bulk(1), bulk(2)])
        turn(planner)
        submit(planner, [person(3), bulk(4)])
        assert turns(planner, 7) == [("prefill", [3]), *[("decode", [3])] * 5, ("prefill", [4])]

    @pytest.mark.parametrize("num_steps", [12, 26, 78])
    @pytest.mark.parametrize("turns_before", [1, 2, 3], ids=["in their prefill", "in the decode after it", "later"])
    def test_a_person_who_comes_while_bulk_starts_waits_for_no_more_tokens_than_without_mixed_steps(
        self, turns_before: int, num_steps: int
    ) -> None:
        apart = tokens_until_answered(scheduler(24, 24 * 128), turns_before, num_steps)
        mixed = tokens_until_answered(scheduler(24, 24 * 128, mixed_from=1), max(1, turns_before - 1), num_steps)
        assert mixed <= apart

    def test_prefills_that_are_decode_steps_need_no_other_between_them(self) -> None:
        planner = scheduler(max_slots=16, max_prefill_tokens=1, kv_tokens=4096, mixed_from=1)
        submit(planner, [bulk(number) for number in range(12)])
        assert [word for word, _ in turns(planner, 13)] == ["prefill", *["mixed"] * 11, "decode"]

    def test_those_who_are_taken_along_count_in_the_tokens_of_the_prefill(self) -> None:
        planner = scheduler(max_prefill_tokens=23, mixed_from=2)
        submit(planner, [bulk(number) for number in range(6)])
        assert turns(planner, 2) == [("prefill", [0, 1]), ("mixed", [0, 1, 2])]


class TestSharedInstructions:
    def test_one_more_request_with_the_same_instruction_takes_its_own_blocks_only(self) -> None:
        planner = scheduler(max_slots=16, kv_tokens=20 * 16, reserved_tokens=0)
        instruction = (7,) * 160
        submit(planner, [bulk(number, tokens=192, instruction=instruction) for number in range(5)])
        slots = started(planner)
        assert [slot.request_id for slot in slots] == [0, 1, 2]  # 10 blocks, and 2 each, and 2 that might be wanted
        assert len({slot.instruction for slot in slots}) == 1
        assert all([*slot.blocks][:10] == [*slots[0].instruction.blocks] for slot in slots)
        assert len({block for slot in slots for block in slot.own_blocks}) == 6

    def test_an_instruction_that_nobody_uses_gives_way(self) -> None:
        planner = scheduler(kv_tokens=20 * 16, reserved_tokens=0)
        planner.submit(bulk(1, tokens=192, instruction=(7,) * 160))
        turn(planner)
        finish(planner, 1)
        planner.submit(bulk(2, tokens=320, prefill=300))
        assert [len(slot.blocks) for slot in started(planner)] == [20]


class TestGrowth:
    def two_in_twelve_blocks(self) -> Scheduler:
        planner = scheduler(kv_tokens=12 * 16, reserved_tokens=0)
        submit(planner, [bulk(1, "a", tokens=192), bulk(2, "b", tokens=192)])
        assert turn(planner) == ("prefill", [1, 2])
        return planner

    def test_an_answer_takes_blocks_as_it_grows(self) -> None:
        planner = scheduler()
        planner.submit(bulk(1, tokens=192))
        [slot] = started(planner)
        sizes = []
        for num_tokens in (11, 32, 33, 80, 50, 192):
            assert planner.extend(1, num_tokens) == []
            sizes.append(len(slot.blocks))
        assert sizes == [2, 2, 3, 5, 5, 12]

    @pytest.mark.parametrize(("request_id", "num_tokens"), [(1, 193), (2, 10)], ids=["too long", "unknown"])
    def test_what_was_not_foreseen_is_refused(self, request_id: int, num_tokens: int) -> None:
        planner = scheduler()
        planner.submit(bulk(1, tokens=192))
        turn(planner)
        with pytest.raises(ValueError, match=f"request {request_id} is not running, or not with {num_tokens} tokens"):
            planner.extend(request_id, num_tokens)

    def test_the_youngest_is_put_back_where_blocks_run_short(self) -> None:
        planner = self.two_in_twelve_blocks()
        assert planner.extend(1, 160) == []
        assert planner.extend(1, 161) == [2]
        assert (planner.is_running(2), planner.num_waiting) == (False, 1)

    def test_who_wants_blocks_is_put_back_itself_if_it_is_the_youngest(self) -> None:
        planner = self.two_in_twelve_blocks()
        assert planner.extend(1, 120) == []
        assert planner.extend(2, 80) == [2]
        assert turn(planner) == ("decode", [1])

    def test_who_was_put_back_comes_before_all_that_waits_and_has_room_for_what_it_had(self) -> None:
        planner = self.two_in_twelve_blocks()
        submit(planner, [bulk(3, "a"), bulk(4, "b")])
        assert planner.extend(2, 60) == []
        assert planner.extend(1, 160) == [2]
        assert planner.upcoming(9) == [2, 3, 4]
        finish(planner, 1)
        slots = started(planner)
        assert [slot.request_id for slot in slots] == [2, 3, 4]
        assert len(slots[0].blocks) == 5

    def test_an_interactive_request_is_never_put_back(self) -> None:
        planner = scheduler(kv_tokens=12 * 16, reserved_tokens=0)
        planner.submit(bulk(1, tokens=192))
        turn(planner)
        planner.submit(person(2, tokens=96))
        assert turn(planner) == ("prefill", [2])
        assert planner.extend(1, 97) == [1]
        assert turn(planner) == ("decode", [2])

    def test_who_was_put_back_twice_starts_with_all_it_may_need_and_stays(self) -> None:
        planner = scheduler(kv_tokens=12 * 16, reserved_tokens=0)
        planner.submit(bulk(1, tokens=192))
        sizes = [len(slot.blocks) for slot in started(planner)]
        for number, persons, num_tokens in ((10, 112, 96), (11, 80, 128)):
            planner.submit(person(number, tokens=persons))
            assert turn(planner) == ("prefill", [number])
            assert planner.extend(1, num_tokens) == [1]
            finish(planner, number)
            sizes += [len(slot.blocks) for slot in started(planner)]
        assert sizes == [2, 7, 12]
        planner.submit(bulk(2))
        assert turn(planner) == ("decode", [1])

    def test_bulk_waits_until_a_batch_of_it_has_blocks(self) -> None:
        planner = scheduler(max_slots=64, kv_tokens=48 * 16, reserved_slots=0, reserved_tokens=0)
        submit(planner, [full(number) for number in range(20)])  # four blocks each: 12 would fill the pool
        assert turn(planner) == ("prefill", list(range(9)))  # and each of those could take one more
        finish(planner, 0)
        assert turn(planner)[0] == "decode"
        finish(planner, 1, 2)
        assert turn(planner) == ("prefill", [9, 10, 11])
