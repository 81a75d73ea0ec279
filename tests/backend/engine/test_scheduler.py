"""The scheduler's rules of turns and order, one example each."""

from collections.abc import Callable
from functools import partial

import pytest

from backend.engine.group_queue import SlotRequest
from backend.engine.scheduler import KvTooSmall
from tests.backend.engine.scheduler_rig import bulk, finish, full, person, scheduler, started, submit, turn, turns


class TestLifeOfARequest:
    def test_an_empty_scheduler_has_nothing_to_do(self) -> None:
        assert turn(scheduler()) == ("idle", [])

    def test_a_request_is_prefilled_then_decoded_until_it_is_finished(self) -> None:
        planner = scheduler()
        planner.submit(bulk(1))
        with pytest.raises(ValueError, match="request 1 is not running"):
            planner.finish(1)
        assert (planner.num_waiting, planner.num_running) == (1, 0)
        assert turns(planner, 3) == [("prefill", [1]), ("decode", [1]), ("decode", [1])]
        assert (planner.num_waiting, planner.num_running, planner.is_running(1)) == (0, 1, True)
        finish(planner, 1)
        assert turn(planner) == ("idle", [])
        assert not planner.is_running(1)

    def test_a_slot_has_the_lowest_free_row_and_blocks_for_prompt_and_first_answer(self) -> None:
        planner = scheduler(max_slots=4)
        submit(planner, [bulk(1, tokens=65), bulk(2, tokens=16), bulk(3, tokens=300, prefill=100)])
        assert [(slot.row, len(slot.blocks)) for slot in started(planner)] == [(0, 2), (1, 1), (2, 8)]
        finish(planner, 2, 1)
        planner.submit(bulk(4))
        assert [slot.row for slot in started(planner)] == [0]

    @pytest.mark.parametrize("make", [person, partial(bulk, alone=True)], ids=["interactive", "alone"])
    def test_who_is_never_put_back_starts_with_all_blocks_it_may_need(self, make: Callable[..., SlotRequest]) -> None:
        planner = scheduler()
        planner.submit(make(1, tokens=65))
        [slot] = started(planner)
        assert len(slot.blocks) == 5

    def test_an_id_in_use_is_refused_and_a_finished_one_may_come_back(self) -> None:
        planner = scheduler()
        planner.submit(bulk(1))
        with pytest.raises(ValueError, match="request 1 was submitted already"):
            planner.submit(person(1))
        planner.next_turn()
        with pytest.raises(ValueError, match="request 1 was submitted already"):
            planner.submit(bulk(1))
        finish(planner, 1)
        planner.submit(bulk(1))
        assert turn(planner) == ("prefill", [1])

    def test_a_request_larger_than_the_pool_is_refused(self) -> None:
        planner = scheduler(kv_tokens=1030)
        with pytest.raises(KvTooSmall, match="1025 tokens do not fit in the KV cache of 1024"):
            planner.submit(bulk(1, tokens=1025))
        planner.submit(bulk(1, tokens=1024))
        assert turn(planner) == ("prefill", [1])

    @pytest.mark.parametrize("wanted", [bulk(1, tokens=0), bulk(1, prefill=0)], ids=["no tokens", "no prefill"])
    def test_a_request_without_a_size_is_refused(self, wanted: SlotRequest) -> None:
        with pytest.raises(ValueError, match="below 1"):
            scheduler().submit(wanted)

    @pytest.mark.parametrize("instruction", [(1,) * 64, (1,) * 17], ids=["as long as all", "no whole blocks"])
    def test_an_instruction_that_cannot_be_shared_is_refused(self, instruction: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="no longer than its instruction, or that fills no blocks"):
            scheduler().submit(bulk(1, instruction=instruction))

    def test_only_a_waiting_request_is_cancelled(self) -> None:
        planner = scheduler(max_slots=2)
        submit(planner, [bulk(1), bulk(2), person(3)])
        assert turn(planner) == ("prefill", [3])
        assert [planner.cancel(number) for number in (1, 1, 3, 99)] == [True, False, False, False]
        assert planner.upcoming(9) == [2]

    @pytest.mark.parametrize(
        ("limits", "field"),
        [
            ({"max_slots": 0, "reserved_slots": 0}, "reserved_slots"),
            ({"max_slots": 1}, "reserved_slots"),
            ({"reserved_tokens": 1025}, "reserved_tokens"),
            ({"max_prefill_tokens": 0}, "max_prefill_tokens"),
        ],
        ids=["no slot", "all slots reserved", "reserve above the pool", "no prefill"],
    )
    def test_limits_that_contradict_are_refused(self, limits: dict[str, int], field: str) -> None:
        with pytest.raises(ValueError, match=field):
            scheduler(**limits)


class TestPrefills:
    def test_a_prefill_takes_as_many_as_its_tokens_allow(self) -> None:
        planner = scheduler(max_prefill_tokens=25)
        submit(planner, [bulk(number) for number in range(4)])
        assert turns(planner, 3) == [("prefill", [0, 1]), ("prefill", [2, 3]), ("decode", [0, 1, 2, 3])]

    def test_a_single_request_may_exceed_the_tokens_of_a_prefill(self) -> None:
        planner = scheduler(max_prefill_tokens=25)
        submit(planner, [bulk(1, prefill=500), bulk(2)])
        assert turns(planner, 2) == [("prefill", [1]), ("prefill", [2])]

    def test_the_limit_is_lowered_after_out_of_memory_but_never_below_one(self) -> None:
        planner = scheduler()
        submit(planner, [bulk(number) for number in range(4)])
        planner.limit_prefill(20)
        assert turn(planner) == ("prefill", [0, 1])
        planner.limit_prefill(-5)
        assert turns(planner, 2) == [("prefill", [2]), ("prefill", [3])]

    def test_interactive_and_bulk_never_share_a_prefill(self) -> None:
        planner = scheduler()
        submit(planner, [bulk(1), person(2), bulk(3), person(4)])
        assert turn(planner) == ("prefill", [2, 4])

    def test_bulk_waits_until_a_batch_of_rows_is_free(self) -> None:
        planner = scheduler(max_slots=8, reserved_slots=0, kv_tokens=4096)
        submit(planner, [bulk(number) for number in range(12)])
        assert turn(planner) == ("prefill", list(range(8)))
        finish(planner, 0)
        assert turn(planner) == ("decode", list(range(1, 8)))
        finish(planner, 5)
        assert turn(planner) == ("prefill", [8, 9])

    def test_the_last_waiting_ones_need_no_full_batch(self) -> None:
        planner = scheduler(max_slots=8, reserved_slots=0, kv_tokens=4096)
        submit(planner, [bulk(number) for number in range(9)])
        turn(planner)
        finish(planner, 0)
        assert turn(planner) == ("prefill", [8])

    def test_a_stream_of_prefills_lets_all_running_requests_decode_after_eight(self) -> None:
        planner = scheduler(max_slots=16, max_prefill_tokens=1, kv_tokens=4096)
        submit(planner, [person(number) for number in range(12)])
        words = [word for word, _ in turns(planner, 10)]
        assert words == ["prefill"] * 8 + ["decode", "prefill"]


class TestReserve:
    def test_bulk_leaves_the_reserved_rows_free(self) -> None:
        planner = scheduler(max_slots=4, reserved_slots=1)
        submit(planner, [bulk(number) for number in range(5)])
        assert turn(planner) == ("prefill", [0, 1, 2])
        planner.submit(person(9))
        assert turn(planner) == ("prefill", [9])

    def test_bulk_leaves_the_reserved_blocks_free(self) -> None:
        planner = scheduler(kv_tokens=256, reserved_tokens=64)
        submit(planner, [full(number) for number in range(4)])
        assert turn(planner) == ("prefill", [0, 1])  # each of these could take another block
        assert turn(planner)[0] == "decode"
        assert planner.extend(0, 64) == planner.extend(1, 64) == []
        planner.submit(person(9))
        assert turn(planner) == ("prefill", [9])

    def test_an_answer_leaves_the_reserved_blocks_free_too(self) -> None:
        planner = scheduler(kv_tokens=256, reserved_tokens=64)
        submit(planner, [bulk(number, tokens=192) for number in range(2)])
        turn(planner)
        assert planner.extend(0, 160) == []
        assert planner.extend(0, 161) == [1]
        planner.submit(person(9))
        assert turn(planner) == ("prefill", [9])

    def test_bulk_too_big_for_its_share_waits_for_the_whole_pool(self) -> None:
        planner = scheduler(kv_tokens=256, reserved_tokens=64)
        submit(planner, [person(1), bulk(2, tokens=256), bulk(3)])
        assert turns(planner, 5) == [("prefill", [1]), *[("decode", [1])] * 4]
        finish(planner, 1)
        assert [(slot.request_id, len(slot.blocks)) for slot in started(planner)] == [(2, 16)]
        finish(planner, 2)
        assert turn(planner) == ("prefill", [3])

    def test_interactive_requests_use_what_bulk_leaves_too(self) -> None:
        planner = scheduler(kv_tokens=256, reserved_tokens=64)
        submit(planner, [person(number) for number in range(5)])
        assert turn(planner) == ("prefill", [0, 1, 2, 3])

    def test_with_one_slot_everything_takes_turns(self) -> None:
        planner = scheduler(max_slots=1, reserved_slots=0)
        submit(planner, [bulk(1), person(2)])
        assert turn(planner) == ("prefill", [2])
        finish(planner, 2)
        assert turn(planner) == ("prefill", [1])


class TestFairness:
    def test_groups_take_turns_and_each_keeps_its_order(self) -> None:
        planner = scheduler()
        submit(planner, [*(bulk(number, "a") for number in range(5)), bulk(10, "b"), bulk(11, "b"), bulk(20, "c")])
        assert [planner.upcoming(count) for count in (0, 2)] == [[], [0, 10]]
        assert planner.upcoming(99) == [0, 10, 20, 1, 11, 2, 3, 4]
        assert turn(planner) == ("prefill", [0, 10, 20, 1, 11, 2, 3])

    def test_groups_of_people_take_turns_too(self) -> None:
        planner = scheduler(max_prefill_tokens=20)
        submit(planner, [*(person(number) for number in range(5)), person(10, group="other")])
        assert planner.upcoming(99) == [0, 10, 1, 2, 3, 4]
        assert turn(planner) == ("prefill", [0, 10])

    def test_a_group_that_comes_back_waits_for_its_turn(self) -> None:
        planner = scheduler(max_slots=1, reserved_slots=0)
        submit(planner, [bulk(1, "a"), bulk(2, "b"), bulk(3, "b")])
        turn(planner)
        finish(planner, 1)
        planner.submit(bulk(4, "a"))
        assert planner.upcoming(9) == [2, 4, 3]

    def test_cancelling_the_head_of_a_group_keeps_its_turn(self) -> None:
        planner = scheduler()
        submit(planner, [bulk(1, "a"), bulk(2, "b"), bulk(3, "a")])
        planner.cancel(1)
        assert planner.upcoming(9) == [3, 2]

    def test_nothing_overtakes_a_bulk_request_that_does_not_fit(self) -> None:
        planner = scheduler(kv_tokens=256, reserved_tokens=0)
        submit(planner, [bulk(1, "a"), full(2, "b", tokens=256), bulk(3, "a", tokens=16)])
        assert turns(planner, 2) == [("prefill", [1]), ("decode", [1])]
        finish(planner, 1)
        assert turn(planner) == ("prefill", [2])

    def test_no_bulk_overtakes_an_interactive_request_that_does_not_fit(self) -> None:
        planner = scheduler(kv_tokens=256, reserved_tokens=64)
        submit(planner, [bulk(number, prefill=32) for number in range(4)])
        assert turn(planner) == ("prefill", [0, 1, 2])
        planner.submit(person(9, tokens=160))
        assert turn(planner) == ("decode", [0, 1, 2])
        finish(planner, 2)
        assert turn(planner) == ("prefill", [9])

    def test_bulk_is_due_after_eight_interactive_requests(self) -> None:
        planner = scheduler(max_slots=16)
        submit(planner, [bulk(1), bulk(2), *(person(number) for number in range(10, 20))])
        assert planner.upcoming(99) == [*range(10, 18), 1, 18, 19, 2]
        assert turns(planner, 3) == [("prefill", [*range(10, 18)]), ("prefill", [1]), ("prefill", [18, 19])]

    def test_interactive_requests_before_the_first_waiting_bulk_do_not_count(self) -> None:
        planner = scheduler(max_slots=16)
        submit(planner, [person(number) for number in range(8)])
        turn(planner)
        submit(planner, [bulk(100), person(8)])
        assert turn(planner) == ("prefill", [8])

    def test_while_bulk_is_due_interactive_requests_pass_inside_their_reserve_only(self) -> None:
        planner = scheduler(max_slots=4, reserved_slots=2, kv_tokens=256, reserved_tokens=128)
        submit(planner, [bulk(number) for number in range(3)])
        assert turn(planner) == ("prefill", [0, 1])
        for number in range(10, 18):
            planner.submit(person(number))
            assert turn(planner) == ("prefill", [number])
            assert turn(planner)[0] == "decode"
            finish(planner, number)
        submit(planner, [person(20), person(21), person(22)])
        assert turn(planner) == ("prefill", [20, 21])
        finish(planner, 0)
        assert turn(planner) == ("prefill", [2])

    def test_a_due_bulk_request_keeps_its_region_when_the_reserve_is_full(self) -> None:
        planner = scheduler(max_slots=5, reserved_slots=3, kv_tokens=512, reserved_tokens=128)
        submit(planner, [bulk(number) for number in range(3)])
        turn(planner)
        for number in range(10, 18):
            planner.submit(person(number))
            assert turn(planner) == ("prefill", [number])
            assert turn(planner)[0] == "decode"
            finish(planner, number)
        submit(planner, [person(20), person(21), person(22)])
        assert turn(planner) == ("prefill", [20, 21])
        assert turn(planner)[0] == "decode"

    def test_nothing_passes_a_due_bulk_request_that_needs_the_whole_pool(self) -> None:
        planner = scheduler(reserved_slots=2, kv_tokens=256, reserved_tokens=128)
        submit(planner, [person(0), bulk(1, tokens=256)])
        turn(planner)
        for number in range(10, 17):
            planner.submit(person(number))
            assert turn(planner) == ("prefill", [number])
            finish(planner, number)
        planner.submit(person(20))
        assert turns(planner, 5) == [("decode", [0])] * 5
        finish(planner, 0)
        assert turns(planner, 2) == [("prefill", [1]), ("decode", [1])]


class TestDecodeTurns:
    def test_an_interactive_request_decodes_alone_but_for_every_sixth_turn(self) -> None:
        planner = scheduler()
        planner.submit(bulk(1))
        turn(planner)
        planner.submit(person(2))
        cycle = [("decode", [2])] * 5 + [("decode", [1, 2])]
        assert turns(planner, 13) == [("prefill", [2]), *cycle, *cycle]
        finish(planner, 2)
        assert turn(planner) == ("decode", [1])

    def test_bulk_is_admitted_at_a_sixth_turn_only_while_an_interactive_request_runs(self) -> None:
        planner = scheduler()
        submit(planner, [person(1), bulk(2)])
        turn(planner)
        assert turns(planner, 6) == [*[("decode", [1])] * 5, ("prefill", [2])]
        assert turns(planner, 6) == [*[("decode", [1])] * 5, ("decode", [1, 2])]

    def test_an_interactive_request_is_admitted_at_once(self) -> None:
        planner = scheduler()
        submit(planner, [bulk(number) for number in range(7)])
        turns(planner, 2)
        planner.submit(person(10))
        assert turn(planner) == ("prefill", [10])

    def test_bulk_decodes_too_after_eight_prefills(self) -> None:
        planner = scheduler(max_slots=16)
        planner.submit(bulk(0))
        turn(planner)
        for number in range(1, 8):
            planner.submit(person(number))
            assert turn(planner) == ("prefill", [number])
        planner.submit(person(8))
        assert turns(planner, 2) == [("decode", list(range(8))), ("prefill", [8])]

    def test_running_bulk_is_not_starved_by_bulk_that_ends_with_its_prefill(self) -> None:
        planner = scheduler()
        submit(planner, [bulk(0), person(1)])
        seen: list[tuple[str, list[int]]] = []
        for number in range(10, 19):
            planner.submit(bulk(number))
            while not planner.is_running(number):
                seen.append(turn(planner))
            finish(planner, number)
        assert ("decode", [0, 1]) in [(word, sorted(ids)) for word, ids in seen]

    def test_slots_are_in_the_order_of_their_rows(self) -> None:
        planner = scheduler(max_slots=2, reserved_slots=0)
        submit(planner, [bulk(number) for number in range(3)])
        turn(planner)
        finish(planner, 0)
        assert turns(planner, 2) == [("prefill", [2]), ("decode", [2, 1])]


class TestAlone:
    @pytest.mark.parametrize("make", [bulk, person], ids=["bulk", "interactive"])
    def test_it_waits_until_nothing_runs_and_then_runs_without_neighbours(
        self, make: Callable[..., SlotRequest]
    ) -> None:
        planner = scheduler()
        submit(planner, [make(1), make(2, alone=True), make(3)])
        assert turns(planner, 2) == [("prefill", [1]), ("decode", [1])]
        finish(planner, 1)
        assert turns(planner, 3) == [("prefill", [2]), ("decode", [2]), ("decode", [2])]
        finish(planner, 2)
        assert turn(planner) == ("prefill", [3])

    def test_interactive_requests_wait_while_it_runs(self) -> None:
        planner = scheduler()
        planner.submit(bulk(1, alone=True))
        turn(planner)
        planner.submit(person(2))
        assert turn(planner) == ("decode", [1])

    def test_it_is_not_starved_by_interactive_requests(self) -> None:
        planner = scheduler(reserved_slots=2)
        submit(planner, [person(0), bulk(1, alone=True)])
        turn(planner)
        for number in range(10, 17):
            planner.submit(person(number))
            assert turn(planner) == ("prefill", [number])
            finish(planner, number)
        planner.submit(person(20))
        assert turns(planner, 5) == [("decode", [0])] * 5
        finish(planner, 0)
        assert turn(planner) == ("prefill", [1])
        finish(planner, 1)
        assert turn(planner) == ("prefill", [20])
