"""Long calls of the store: of each project one at a time, and projects in turns."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from functools import partial

import pytest

from backend.store import Store
from backend.store.calls import StoreCalls
from tests.limits import WAIT_S, eventually

HOSTILE, INNOCENT = "66.1", "900.1"


@pytest.mark.parametrize(
    ("projects", "begun", "next_one"),
    [
        pytest.param([HOSTILE] * 40 + [INNOCENT], {0, 40}, 1, id="forty of one project"),
        pytest.param([HOSTILE] * 40 + [""], {0, 40}, 1, id="what is no project's"),
        pytest.param(["", "", "", INNOCENT], {0, 1, 2, 3}, None, id="all have a place"),
        pytest.param(["", "", "", ""] + [HOSTILE] * 9 + [INNOCENT], {0, 1, 2, 3}, 4, id="no place is left"),
    ],
)
def test_one_projects_long_calls_leave_places_to_others(
    projects: Sequence[str], begun: set[int], next_one: int | None
) -> None:
    may_end = [threading.Event() for _ in projects]
    under_way: set[int] = set()

    def call(number: int) -> int:
        under_way.add(number)
        assert may_end[number].wait(WAIT_S)
        return number

    async def run() -> None:
        calls = StoreCalls(Store.in_memory())
        ended = [
            asyncio.create_task(calls.run(partial(call, number), project)) for number, project in enumerate(projects)
        ]
        await eventually(lambda: under_way == begun, "those that have a place")
        may_end[0].set()
        assert await ended[0] == 0
        expected = begun | ({next_one} if next_one is not None else set())
        await eventually(lambda: under_way == expected, "the next one")
        for event in may_end:
            event.set()
        assert await asyncio.gather(*ended) == list(range(len(projects)))

    asyncio.run(run())


def test_a_project_that_had_less_goes_first_whoever_waited_longer() -> None:
    order: list[int] = []

    async def run() -> None:
        now = 0.0
        calls = StoreCalls(Store.in_memory(), max_at_once=1, monotonic=lambda: now)
        may_end = threading.Event()
        first = asyncio.create_task(calls.run(may_end.wait, HOSTILE))
        await asyncio.sleep(0)
        projects = [HOSTILE] * 5 + [INNOCENT]
        rest = [
            asyncio.create_task(calls.run(partial(order.append, number), project))
            for number, project in enumerate(projects)
        ]
        await asyncio.sleep(0)
        now = 1.0  # so long took the first
        may_end.set()
        await asyncio.gather(first, *rest)

    asyncio.run(run())
    assert order == [5, 0, 1, 2, 3, 4]
