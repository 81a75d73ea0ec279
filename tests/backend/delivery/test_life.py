"""Starting, stopping and dying in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from backend.delivery.loop import Delivery
from backend.errors import PrelabelError
from backend.label_studio.predictions import PredictionsClient
from tests.backend.delivery.fake_server import FakeServer
from tests.backend.delivery.rig import Rig
from tests.limits import WAIT_S, eventually


async def until(condition: Callable[[], bool], delivery: Delivery) -> None:
    def holds() -> bool:
        delivery.wake()
        return condition()

    await eventually(holds)


def test_a_started_delivery_finds_work_by_itself(rig: Rig, label_studio: FakeServer) -> None:
    async def go() -> None:
        delivery = rig.delivery
        await delivery.start()
        rig.store.add(label_studio.add_project(1, 401), sorted(label_studio.tasks[1]))
        await until(lambda: not rig.store.open, delivery)
        await delivery.stop()

    asyncio.run(go())
    assert label_studio.stored() == dict.fromkeys(label_studio.tasks[1], 1)


def test_work_that_lay_there_at_the_start_waits_until_label_studio_is_surely_done_with_it(
    rig: Rig, label_studio: FakeServer
) -> None:
    """A killed process may have left an import that Label Studio is still busy with."""

    async def go() -> None:
        rig.store.add(label_studio.add_project(1, 2), [1000, 1001], state="returned")
        await rig.delivery.start()
        label_studio.late.append((1, [{"task": 1000, "model_version": rig.store.works[1].model_version}]))
        rig.store.add(label_studio.add_project(2, 1), [2000])
        await until(lambda: label_studio.stored() == {2000: 1}, rig.delivery)
        label_studio.settle()
        rig.now += rig.limits.settle_s
        await until(lambda: not rig.store.open, rig.delivery)
        await rig.delivery.stop()

    asyncio.run(go())
    assert label_studio.stored() == {1000: 1, 1001: 1, 2000: 1}


def test_a_fault_of_our_own_in_one_project_stops_no_other(
    rig: Rig, label_studio: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (1, 2):
        rig.store.add(label_studio.add_project(number, 1), [1_000 * number])
    good = rig.store.answers
    broken = iter([True])

    def answers(keys: object) -> object:
        if next(broken, False):
            raise RuntimeError("bug")
        return good(keys)

    rig.store.answers = answers
    rig.run()
    assert len(rig.store.open) == 1
    assert "its log says more" in rig.delivery.status.last_error
    assert "RuntimeError: bug" in caplog.text
    rig.run_until_settled()
    assert label_studio.stored() == {1000: 1, 2000: 1}


async def stopped_while_label_studio_works(rig: Rig, label_studio: FakeServer) -> None:
    stopping = asyncio.create_task(rig.delivery.stop(limit_s=WAIT_S))
    await asyncio.sleep(0)  # it has begun
    label_studio.release.set()
    await stopping


def test_stop_ends_the_call_under_way_and_begins_no_other(rig: Rig, label_studio: FakeServer) -> None:
    async def go() -> None:
        label_studio.fail("import", "held")
        await rig.delivery.start()
        rig.store.add(label_studio.add_project(1, 600), sorted(label_studio.tasks[1]))
        await until(lambda: label_studio.num_imports == 1, rig.delivery)
        await stopped_while_label_studio_works(rig, label_studio)

    asyncio.run(go())
    assert label_studio.num_imports == 1
    assert len(rig.store.open) == 400
    rig.new_delivery()
    rig.run_until_settled()
    assert label_studio.stored() == dict.fromkeys(label_studio.tasks[1], 1)


def test_stop_leaves_the_rest_of_a_split_batch_for_the_next_start(rig: Rig, label_studio: FakeServer) -> None:
    async def go() -> None:
        label_studio.max_items = 1
        label_studio.fail("import", "", "", "", "held")  # 4, 2 and then one by one
        await rig.delivery.start()
        rig.store.add(label_studio.add_project(1, 4), sorted(label_studio.tasks[1]))
        await until(lambda: label_studio.num_imports == 4, rig.delivery)
        await stopped_while_label_studio_works(rig, label_studio)

    asyncio.run(go())
    assert label_studio.num_imports == 4
    assert len(rig.store.open) == 2
    rig.new_delivery()
    rig.run_until_settled()
    assert label_studio.stored() == dict.fromkeys(label_studio.tasks[1], 1)


def test_stop_does_not_wait_for_ever(rig: Rig, label_studio: FakeServer) -> None:
    async def go() -> None:
        label_studio.fail("import", "held")
        await rig.delivery.start()
        rig.store.add(label_studio.add_project(1, 5), sorted(label_studio.tasks[1]))
        await until(lambda: label_studio.num_imports == 1, rig.delivery)
        await rig.delivery.stop(limit_s=0.01)
        assert len(rig.store.open) == 5
        label_studio.release.set()
        await eventually(lambda: not rig.store.open)  # the thread ends by itself, and its note is still good

    asyncio.run(go())
    assert label_studio.stored() == dict.fromkeys(label_studio.tasks[1], 1)


def test_a_store_in_trouble_is_no_end(rig: Rig, label_studio: FakeServer) -> None:
    rig.store.add(label_studio.add_project(1, 1), [1000])
    good = rig.store.projects_due

    def projects_due(now: float) -> list[str]:
        raise PrelabelError("the database is locked")

    rig.store.projects_due = projects_due
    rig.run()
    assert "locked" in rig.delivery.status.last_error
    rig.store.projects_due = good
    rig.run()
    assert label_studio.stored() == {1000: 1}


def test_a_fault_of_our_own_does_not_end_the_loop(rig: Rig, label_studio: FakeServer) -> None:
    good = rig.store.projects_due
    faults = [None, RuntimeError("bug")]

    def projects_due(now: float) -> list[str]:
        if faults and (fault := faults.pop(0)):
            raise fault
        found: list[str] = good(now)
        return found

    async def go() -> None:
        rig.store.projects_due = projects_due
        await rig.delivery.start()
        rig.store.add(label_studio.add_project(1, 1), [1000])
        await until(lambda: not rig.store.open, rig.delivery)
        await rig.delivery.stop()

    asyncio.run(go())
    assert "its log says more" in rig.delivery.status.last_error
    assert label_studio.stored() == {1000: 1}


def test_errors_in_the_status_hold_no_secret(rig: Rig, label_studio: FakeServer) -> None:
    rig.store.add(label_studio.add_project(1, 1), [1000])
    label_studio.add_project(1, 1)

    def connect() -> PredictionsClient:
        raise PrelabelError("Authorization: Token 0123456789abcdef\nsecond line")

    rig.new_delivery(connect)
    rig.run()
    assert "0123456789abcdef" not in rig.delivery.status.last_error
    assert "\n" not in rig.delivery.status.last_error
