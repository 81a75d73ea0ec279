"""How long tasks wait for the model, and that nothing is fetched in vain."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from backend.engine.api import EngineStatus
from backend.engine.messages import Finished, GenerateRequest, Ready
from backend.errors import EngineDead, EngineNotReady
from backend.predict.options import ProjectOptions
from backend.predict.recipe import recipe_of
from backend.predict.task import TaskInput
from backend.queue.ask import Ask
from backend.queue.results import TaskResult
from backend.queue.service import Core
from backend.settings import load_settings
from label_config.parse import parse_label_config
from tests.backend.serving import ANSWER, CONFIG
from tests.fakes import FakeEngine, FakeImages
from tests.limits import TEST_S

RECIPE = recipe_of(parse_label_config(CONFIG), ProjectOptions(), 256)
TASKS = [TaskInput(number, f"https://shop.example/{number}.jpg") for number in range(3)]
DEADLINE_S = TEST_S


class PatientEngine(FakeEngine):
    """Notes how long it would have been waited for, and says at once that it is not ready."""

    def __init__(self, status: EngineStatus) -> None:
        super().__init__(ANSWER)
        self.status = status
        self.waits: list[float] = []

    async def wait_ready(self, timeout_s: float) -> Ready:
        self.waits.append(timeout_s)
        return await super().wait_ready(0)


class DyingEngine(FakeEngine):
    """Dies of the first request, and cannot be started again."""

    async def generate(self, request: GenerateRequest) -> Finished:
        self.status = EngineStatus("failed", message="it died")
        raise EngineDead("it died")


def _predict(
    data_dir: Path, engine: FakeEngine, images: FakeImages, deadline_s: float = DEADLINE_S, *, start: bool = True
) -> list[TaskResult]:
    async def run() -> list[TaskResult]:
        core = Core(load_settings({"data_dir": data_dir, "max_slots": "1"}), engine, images)
        if start:
            await core.start()
        try:
            now = asyncio.get_running_loop().time()
            ask = Ask("12", CONFIG, RECIPE, interactive=False, asked_at=time.time())
            return await core.predict(ask, TASKS, now + deadline_s)
        finally:
            await core.close()

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("status", "deadline_s", "low", "high"),
    [
        (EngineStatus("loading", "download", 0.25), DEADLINE_S, 5.0, 5.0),
        (EngineStatus("loading", "download", 0.25), 2.0, 0.0, 2.0),
        (EngineStatus("loading", "load", 0.25), DEADLINE_S, DEADLINE_S / 2, DEADLINE_S),
        (EngineStatus("restarting"), DEADLINE_S, DEADLINE_S / 2, DEADLINE_S),
    ],
    ids=["download: briefly", "download: never beyond the deadline", "load: to the deadline", "restart"],
)
def test_a_model_is_waited_for_according_to_what_it_does(
    tmp_path: Path, status: EngineStatus, deadline_s: float, low: float, high: float
) -> None:
    engine, images = PatientEngine(status), FakeImages()
    with pytest.raises(EngineNotReady) as caught:
        _predict(tmp_path, engine, images, deadline_s, start=False)  # only the request waits
    assert caught.value.retry_after_s >= 1
    (wait,) = engine.waits
    assert low <= wait <= high
    assert images.fetched == []


def test_no_picture_is_fetched_for_an_engine_that_cannot_be_started(tmp_path: Path) -> None:
    engine, images = PatientEngine(EngineStatus("failed", message="the folder holds no model")), FakeImages()
    with pytest.raises(EngineDead):
        _predict(tmp_path, engine, images)
    assert images.fetched == []


def test_no_picture_is_fetched_once_the_engine_has_died(tmp_path: Path) -> None:
    engine, images = DyingEngine(ANSWER), FakeImages()
    assert [result.reason for result in _predict(tmp_path, engine, images)] == ["engine_dead"] * len(TASKS)
    assert set(images.fetched) <= {task.image_url for task in TASKS[:2]}, "two are in work at once"
