"""The run itself: how many are in work, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from backend.bulk.items import Item
from backend.bulk.outcomes import Outcome, Record
from backend.bulk.run import BulkRun, RunLimits
from backend.errors import EngineDead, OutputError, UsageError
from tests.backend.bulk.given import item, record
from tests.limits import WAIT_S, eventually

PATIENT = RunLimits(grace_s=WAIT_S, sync_s=0.01, tick_s=0.01, chunk=8)
IMPATIENT = replace(PATIENT, grace_s=0.05)


class Annotator:
    """Answers after a turn of the loop; holds those it is told to hold."""

    def __init__(self, held: int | None = None, error: Exception | None = None) -> None:
        self.num_running = self.max_running = self.num_cancelled = 0
        self.begun: list[str] = []
        self._held = held
        self._error = error

    async def annotate(self, item: Item) -> Outcome:
        self.begun.append(item.image_id)
        self.num_running += 1
        self.max_running = max(self.max_running, self.num_running)
        try:
            await asyncio.sleep(0.001)
            if self._error is not None:
                raise self._error
            if self._held is not None and int(item.image_id) >= self._held:
                await asyncio.Event().wait()
            return Record(record(item.image_id))
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        finally:
            self.num_running -= 1


def _items(num: int) -> Iterator[Item]:
    return (item(str(number)) for number in range(num))


def _ids(taken: list[Outcome]) -> list[str]:
    return [outcome.line["image_id"] for outcome in taken]


def _run(annotator: Annotator, items: Iterator[Item], taken: list[Outcome], **options: Any) -> bool:
    async def go() -> bool:
        return await BulkRun(annotator, items, taken.append, 5, limits=PATIENT, **options).run()

    return asyncio.run(go())


def test_every_item_is_taken_up_once_and_never_more_than_allowed_at_a_time() -> None:
    annotator, taken = Annotator(), list[Outcome]()
    assert _run(annotator, _items(300), taken)
    assert sorted(_ids(taken), key=int) == [str(number) for number in range(300)]
    assert annotator.max_running == 5


def test_no_more_is_read_than_will_soon_be_needed() -> None:
    read: list[int] = []

    def items() -> Iterator[Item]:
        for number in range(1_000):
            read.append(number)
            yield item(str(number))

    annotator, stop = Annotator(held=0), asyncio.Event()

    async def go() -> None:
        run = asyncio.create_task(BulkRun(annotator, items(), print, 5, stop=stop, limits=IMPATIENT).run())
        await eventually(lambda: len(annotator.begun) == 5)
        stop.set()
        assert not await run

    asyncio.run(go())
    assert len(read) <= 2 * IMPATIENT.chunk


def test_a_stop_begins_nothing_new_and_lets_what_is_in_work_end() -> None:
    taken: list[Outcome] = []
    annotator, stop = Annotator(), asyncio.Event()

    def take(outcome: Outcome) -> None:
        taken.append(outcome)
        if len(taken) == 10:
            stop.set()

    async def go() -> None:
        assert not await BulkRun(annotator, _items(300), take, 5, stop=stop, limits=PATIENT).run()

    asyncio.run(go())
    assert 10 <= len(taken) <= 15
    assert sorted(_ids(taken)) == sorted(annotator.begun)
    assert annotator.num_cancelled == 0


def test_what_does_not_end_in_time_after_a_stop_is_given_up() -> None:
    taken: list[Outcome] = []
    annotator, stop = Annotator(held=10), asyncio.Event()

    async def go() -> None:
        run = asyncio.create_task(BulkRun(annotator, _items(300), taken.append, 5, stop=stop, limits=IMPATIENT).run())
        await eventually(lambda: len(taken) == 10 and annotator.num_running == 5)
        stop.set()
        assert not await run

    asyncio.run(go())
    assert len(taken) == 10
    assert annotator.num_cancelled == 5


@pytest.mark.parametrize("error", [EngineDead("gone"), ZeroDivisionError()], ids=["the engine is gone", "a bug"])
def test_what_concerns_every_picture_ends_the_run(error: Exception) -> None:
    with pytest.raises(type(error)):
        _run(Annotator(error=error), _items(300), [])


def test_a_disk_that_is_full_ends_the_run() -> None:
    def take(outcome: Outcome) -> None:
        raise OutputError("full")

    with pytest.raises(OutputError):
        asyncio.run(BulkRun(Annotator(), _items(300), take, 5, limits=PATIENT).run())


def test_a_disk_that_fails_while_it_is_waited_for_ends_the_run() -> None:
    def sync() -> None:
        raise OutputError("failing")

    with pytest.raises(OutputError):
        _run(Annotator(held=0), _items(300), [], sync=sync)


def test_a_list_that_is_broken_in_the_middle_ends_the_run() -> None:
    def items() -> Iterator[Item]:
        yield from _items(20)
        raise UsageError("line 21 is no JSON")

    with pytest.raises(UsageError):
        _run(Annotator(), items(), [])


def test_nothing_to_do_is_done_at_once() -> None:
    assert _run(Annotator(), _items(0), [])
