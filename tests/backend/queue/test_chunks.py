"""A request of many tasks leaves the store to others again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from backend.predict.task import TaskInput
from backend.queue.ask import Ask
from backend.queue.recipes import Recipes
from backend.queue.replies import CHUNK, Replies
from backend.store import Store
from backend.store.calls import StoreCalls
from tests.backend.queue.worker_rig import PROJECT, RECIPE, VERSION, Rig, Watched
from tests.backend.serving import ANSWER, CONFIG
from tests.fakes import FakeEngine
from tests.limits import WAIT_S


class CountsRows(Watched):
    """Of each write about the tasks of a request, how many there were."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.accepted: list[int] = []
        self.ended: list[int] = []

    def accept(self, items: Sequence[Any], **more: Any) -> Any:
        self.accepted.append(len(items))
        return self.real.accept(items, **more)

    def reply_ended(self, work_ids: Sequence[int], now: float) -> None:
        self.ended.append(len(work_ids))
        self.real.reply_ended(work_ids, now)


@pytest.mark.parametrize("num_tasks", [CHUNK, 3 * CHUNK + 1])
def test_no_write_is_about_more_than_so_many_tasks(tmp_path: Path, num_tasks: int) -> None:
    async def run() -> None:
        store = CountsRows(Store.open(tmp_path / "prelabel.db", time.time()))
        rig = Rig(store, FakeEngine(ANSWER))
        recipes = Recipes(rig.store, 256)
        calls = StoreCalls(rig.store)
        replies = Replies(
            rig.store, calls, rig.worker, rig.held, recipes, lasts=True, max_waiting=10**6, pushes=lambda project: True
        )
        tasks = [TaskInput(number, f"https://shop.example/{number}.jpg") for number in range(num_tasks)]
        ask = Ask(PROJECT, CONFIG, RECIPE, interactive=False, asked_at=time.time())
        deadline = asyncio.get_running_loop().time() + WAIT_S
        await replies.answer(ask, tasks, VERSION, deadline)
        await replies.close(WAIT_S)
        assert sum(store.accepted) == sum(store.ended) == num_tasks
        assert max(store.accepted + store.ended) <= CHUNK
        store.real.close()

    asyncio.run(run())
