"""The worker over a real store: what is taken when, by whose turn, and how it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backend.errors import EngineNotReady
from backend.predict.task import TaskInput
from backend.store import NewWork, Store, WorkState
from backend.store.calls import FEW_ROWS
from tests.backend.gate import GateEngine
from tests.backend.queue.worker_rig import FAST, PROJECT, RECIPE, RECORD, VERSION, CountsClaims, Rig, SlowToTell, run
from tests.backend.serving import ANSWER
from tests.fakes import READY, FakeEngine
from tests.limits import WAIT_S, eventually


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "prelabel.db", time.time()) as opened:
        yield opened


def test_accepted_work_is_answered_and_stored(store: Store) -> None:
    rig = Rig(store, FakeEngine(ANSWER))

    async def test() -> None:
        waiter = await rig.accept(1, 2, 3)
        keys = [outcome.answer_key for outcome in await rig.outcomes(waiter)]
        assert len(rig.store.answers([key for key in keys if key])) == 3
        assert rig.states() == {"done": 3}

    run(rig, test)


def test_no_more_is_taken_than_fits_and_a_person_goes_before(store: Store) -> None:
    engine = GateEngine()
    rig = Rig(store, engine)

    async def test() -> None:
        await rig.accept(*range(20))
        await eventually(lambda: engine.num_asked == 4)
        person = await rig.accept(99, interactive=True)
        await eventually(lambda: engine.num_asked == 5)
        await rig.rounds(2)
        assert (engine.num_asked, rig.states()) == (5, {"queued": 16, "running": 5})
        engine.open()
        assert (await rig.outcomes(person))[0].answer_key
        await eventually(lambda: rig.states() == {"done": 21})

    run(rig, test)


def test_a_task_whose_turn_comes_at_once_has_its_whole_address(store: Store) -> None:
    rig = Rig(SlowToTell(store), FakeEngine(ANSWER))
    many = range(1, FEW_ROWS + 2)  # few have no turn before that
    whole = {number: TaskInput("text", f"https://shop.example/{number}.jpg?key=1") for number in many}

    async def test() -> None:
        waiter = await rig.accept(*many, url="https://shop.example/{}.jpg#withheld", whole=whole)
        assert all(outcome.answer_key for outcome in await rig.outcomes(waiter))
        assert sorted(rig.images.fetched) == sorted(str(task.image_url) for task in whole.values())

    run(rig, test)


SELDOM = replace(FAST, poll_s=10 * WAIT_S)
"""It looks for work that nobody announced too seldom for any test."""


@pytest.mark.parametrize("num_tasks", [1, 3 * FAST.max_running, 10 * FEW_ROWS])
def test_the_end_of_one_task_makes_room_for_the_next(store: Store, num_tasks: int) -> None:
    rig = Rig(store, FakeEngine(ANSWER), SELDOM)

    async def test() -> None:
        assert all(outcome.answer_key for outcome in await rig.outcomes(await rig.accept(*range(num_tasks))))
        waiter = await rig.accept(num_tasks)
        assert (await rig.outcomes(waiter))[0].answer_key

    run(rig, test)


def test_no_more_pictures_are_at_hand_than_twice_what_the_engine_runs_at_once(store: Store) -> None:
    engine = GateEngine()
    engine.status = replace(engine.status, ready=replace(READY, max_slots=1))
    rig = Rig(store, engine)

    async def test() -> None:
        await rig.accept(*range(5))
        await eventually(lambda: engine.num_asked == 2)
        await rig.rounds(3)
        assert (rig.states(), engine.num_asked) == ({"running": 2, "queued": 3}, 2)
        engine.open()
        await eventually(lambda: rig.states() == {"done": 5})

    run(rig, test)


@pytest.mark.parametrize("interactive", [False, True])
def test_a_project_whose_pictures_never_come_leaves_a_place_to_another(store: Store, interactive: bool) -> None:
    engine = GateEngine()
    rig = Rig(store, engine)
    most = FAST.max_running + FAST.max_urgent * interactive

    async def test() -> None:
        await rig.accept(*range(20), interactive=interactive)
        await eventually(lambda: engine.num_asked == most)
        await rig.rounds(2)
        assert engine.num_asked == most
        await rig.accept(99, project="13.1700000000", interactive=interactive)
        await eventually(lambda: engine.num_asked == most + 1)

    run(rig, test)


def test_suspects_take_their_turns_as_soon_as_the_one_before_has_ended(store: Store) -> None:
    rig = Rig(store, FakeEngine(ANSWER), SELDOM)
    store.save_recipe(RECORD, time.time())
    rows = [NewWork(PROJECT, n, VERSION, RECIPE.fingerprint, f"https://shop.example/{n}.jpg") for n in range(5)]
    store.accept(rows, interactive=False, reply_until=0.0, now=time.time())
    store.claim(5, time.time())
    store.recover(time.time())  # the process ended while all of them ran

    async def test() -> None:
        await eventually(lambda: rig.states() == {"done": 5})

    run(rig, test)


def test_a_task_that_was_queued_again_is_taken_up_again(store: Store) -> None:
    engine = FakeEngine(ANSWER)
    engine.failure = EngineNotReady("restarting")
    rig = Rig(store, engine, SELDOM)

    async def test() -> None:
        waiter = await rig.accept(1)
        await eventually(lambda: len(engine.requests) > 3)
        engine.failure = None
        assert (await rig.outcomes(waiter))[0].answer_key

    run(rig, test)


def test_a_task_is_claimed_in_the_transaction_that_accepts_it_and_nothing_is_claimed_in_vain(store: Store) -> None:
    rig = Rig(CountsClaims(store), FakeEngine(ANSWER), SELDOM)

    async def test() -> None:
        for number in range(5):
            assert (await rig.outcomes(await rig.accept(number)))[0].answer_key
        assert rig.store.num_claims <= 6  # one at the start

    run(rig, test)


def test_stopping_lets_what_is_nearly_done_end_and_queues_the_rest_without_counting_it(store: Store) -> None:
    engine = GateEngine(1)
    rig = Rig(store, engine)

    async def test() -> None:
        await rig.accept(*range(6))
        await eventually(lambda: engine.num_asked == 5 and engine.num_done == 1)

    run(rig, test, stop_s=4.5)
    assert rig.states() == {"done": 1, "queued": 5}
    assert {work.attempts for work in store.claim(9, time.time())} == {1}


def test_cancelled_work_that_is_under_way_says_so(store: Store) -> None:
    engine = GateEngine()
    rig = Rig(store, engine)

    async def test() -> None:
        waiter = await rig.accept(1)
        await eventually(lambda: engine.num_asked == 1)
        store.cancel_project(PROJECT, time.time())
        engine.open()
        assert [outcome.reason for outcome in await rig.outcomes(waiter)] == ["cancelled"]
        assert rig.states() == {str(WorkState.CANCELLED): 1}

    run(rig, test)


def test_a_task_that_is_asked_for_again_and_again_waits_once(store: Store) -> None:
    rig = Rig(store, FakeEngine(ANSWER))

    async def test() -> None:  # nothing runs: it is counted before the store is looked at
        for _ in range(5):
            await rig.accept(1, 2, 3)
            assert rig.worker.num_waiting == 3
        await rig.accept(3, 4, 5)
        assert rig.worker.num_waiting == 5

    asyncio.run(test())
