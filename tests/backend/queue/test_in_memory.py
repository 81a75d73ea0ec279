"""Tasks in memory alone: over HTTP, and what the queue holds of them once they are answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from backend.metrics import Metrics
from backend.predict.options import ProjectOptions
from backend.predict.predictor import Answerer
from backend.predict.recipe import recipe_of
from backend.predict.task import TaskInput
from backend.queue.ask import Ask
from backend.queue.requests import Requests
from backend.queue.results import TaskResult
from backend.queue.task_queue import TaskQueue
from backend.settings import load_settings
from backend.store import Store
from label_config.parse import parse_label_config
from tests.backend.gate import GateEngine
from tests.backend.serving import ANSWER, CONFIG, Server, predict_body, serving, task
from tests.backend.steered import SteeredTime
from tests.fakes import FakeEngine, FakeImages
from tests.limits import TEST_S, eventually, until

RECIPE = recipe_of(parse_label_config(CONFIG), ProjectOptions(), 256)


def inline(number: int, num_chars: int = 40) -> str:
    return f"data:image/png;base64,{number:0{num_chars}}"


class Rig:
    """The queue in memory and nothing else. Use it inside `run`."""

    def __init__(self, engine: FakeEngine) -> None:
        self.store = Store.in_memory()
        self.images = FakeImages()
        self.engine = engine
        self.time = SteeredTime()

    def run(self, test: Callable[[], Awaitable[None]]) -> None:
        async def go() -> None:
            metrics, settings = Metrics(), load_settings({"max_slots": "1"})
            answerer = Answerer(self.engine, self.images, metrics)
            queue = TaskQueue(self.store, self.engine, answerer, metrics, settings, lasts=False)
            self.requests = Requests(self.engine, metrics, queue.replies)
            queue.start()
            try:
                await test()
            finally:
                await queue.stop(5)
                await queue.close(5)

        self.time.run(go())

    async def predict(self, *tasks: TaskInput) -> list[TaskResult]:
        ask = Ask("12", CONFIG, RECIPE, interactive=False, asked_at=time.time())
        return await self.requests.predict(ask, tasks, asyncio.get_running_loop().time() + TEST_S)

    @property
    def num_rows(self) -> int:
        return sum(summary.num_tasks for summary in self.store.summary())


def test_ids_come_back_as_they_came_and_the_pictures_are_fetched_for_them() -> None:
    rig = Rig(FakeEngine(ANSWER))
    tasks = [
        TaskInput("text", "https://x/1"),
        TaskInput(2**70, inline(2)),
        TaskInput(-3, None),
        TaskInput("-3", "a?key=b"),
    ]

    async def test() -> None:
        results = await rig.predict(*tasks)
        assert [result.task_id for result in results] == [task.id for task in tasks]
        assert [result.reason for result in results] == ["", "", "image_missing", ""]
        assert sorted(rig.images.fetched) == sorted(["https://x/1", inline(2), "a?key=b"])

    rig.run(test)


def test_the_same_task_of_two_requests_is_answered_in_both_and_computed_once() -> None:
    engine = GateEngine()
    rig = Rig(engine)

    async def test() -> None:
        asking = [asyncio.create_task(rig.predict(TaskInput("a", inline(1)))) for _ in range(2)]
        await eventually(lambda: len(rig.images.fetched) == 2)
        engine.open()
        one, other = [(await reply)[0].prediction for reply in asking]
        assert one == other
        assert one
        assert engine.num_done == 1

    rig.run(test)


def test_what_misses_the_deadline_is_cancelled_and_nothing_is_left_of_it() -> None:
    engine = GateEngine(1)
    rig = Rig(engine)

    async def test() -> None:
        asking = asyncio.create_task(rig.predict(*(TaskInput(str(n), inline(n)) for n in range(6))))
        await eventually(lambda: engine.num_asked == 1 + 2)  # two in work at once
        rig.time.put_forward(TEST_S)
        assert [result.reason for result in await asking] == ["", *["deadline"] * 5]
        await eventually(lambda: engine.num_cancelled == 2)
        await eventually(lambda: rig.num_rows == 1)
        engine.open()
        assert (await rig.predict(TaskInput("a", inline(9))))[0].prediction
        assert rig.images.fetched == [inline(n) for n in (0, 1, 2, 9)]

    rig.run(test)


def test_of_many_requests_nothing_is_left() -> None:
    rig = Rig(FakeEngine(ANSWER))

    async def test() -> None:
        for number in range(30):
            results = await rig.predict(TaskInput(number, inline(number)), TaskInput("gone", f"missing{number}"))
            assert [result.reason for result in results] == ["", "image_not_found"]
        await eventually(lambda: rig.num_rows == 1)

    rig.run(test)


def waiting(server: Server) -> int:
    return int(server.client.get("/health").json()["work"]["waiting"])


def test_more_pictures_than_may_be_held_are_refused_with_a_time_to_come_back(tmp_path: Path) -> None:
    """A request may hold 100,000 bytes, all together four times as many."""
    engine = GateEngine()
    with (
        serving(tmp_path, engine, max_body_bytes=100_000) as server,
        ThreadPoolExecutor(2) as beside,
        ExitStack() as clients,
    ):
        for number in range(4):
            clients.enter_context(server.asked(predict_body(task(number, inline(number, 95_000)), task(90 + number))))
            until(lambda number=number: engine.num_asked == 2 * (number + 1))  # type: ignore[misc]
        refused = server.predict(task(5, inline(5, 95_000)))
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "engine_busy")
        assert refused.headers["retry-after"]
        drawn = beside.submit(server.predict, task(8, inline(8, 500)), context={"result": []})
        until(lambda: engine.num_asked == 2 * 4 + 1)  # a click has room
        kept = beside.submit(server.predict, task(6), task(7))
        until(lambda: waiting(server) == 4 + 2)
        clients.close()
        until(lambda: server.num_left == 4)
        engine.open()
        assert drawn.result().status_code == 200
        assert all(kept.result().json()["results"]), "the disk has room"
        until(lambda: server.predict(task(5, inline(5, 95_000))).status_code == 200)
