"""What prelabel 0.1.0 stored is used by this version: its answers, its work that waits, and what it did not push."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

from backend.bulk.answers import Answers
from backend.bulk.items import Found, Item
from backend.bulk.local import LocalAnnotator
from backend.bulk.outcomes import Outcome, Record
from backend.delivery.pace import DeliveryLimits
from backend.images import ImageFetcher
from backend.predict.options import ProjectOptions
from backend.predict.recipe import recipe_of
from backend.queue.recipes import Recipes
from backend.store import Store
from backend.store.lock import take_lock
from backend.store.serving import FILE_NAME
from label_config.parse import parse_label_config
from tests.backend.delivery.fake_server import fake_server
from tests.backend.fake_label_studio import LEGACY_KEY
from tests.backend.older_store import AGO_S, VERSION, contents_0_1_0, older_store, prediction_0_1_0
from tests.backend.served import states
from tests.backend.serving import ANSWER, CONFIG, Server, serving, task
from tests.fakes import FakeEngine, FakeImages
from tests.limits import until

AT_ONCE = DeliveryLimits(poll_s=0.05, settle_s=0.1)
ANSWERED, WAITING = (1, 2, 4, 5), 6
DOUBTFUL = 4
RECIPE = recipe_of(parse_label_config(CONFIG), ProjectOptions(), 256)


def expected(task_id: int, like: int) -> str:
    return json.dumps(prediction_0_1_0(contents_0_1_0()[like], task_id))


def asked_for(engine: FakeEngine, server: Server) -> list[str]:
    """The pictures that were fetched, once all work is done."""
    until(lambda: server.client.get("/health").json()["work"]["waiting"] == 0 and engine.requests)
    return server.images.fetched


def test_work_that_waited_is_computed_and_nothing_else(tmp_path: Path) -> None:
    older_store(tmp_path)
    engine = FakeEngine(ANSWER)
    with serving(tmp_path, engine) as server:
        assert asked_for(engine, server) == [f"https://shop.example/{WAITING}.jpg"]
    assert len(engine.requests) == 1
    assert states(tmp_path) == {"done": 2, "failed": 1, "returned": 3}


def test_answers_are_returned_to_the_byte_as_they_were_and_without_the_engine(tmp_path: Path) -> None:
    older_store(tmp_path)
    engine = FakeEngine(ANSWER)
    with serving(tmp_path, engine) as server:
        asked_for(engine, server)
        results = server.predict(*map(task, ANSWERED)).json()["results"]
        assert [json.dumps(result) for result in results] == [expected(number, number) for number in ANSWERED]
        assert len(engine.requests) == 1


def test_the_same_pictures_in_other_tasks_are_answered_from_the_store(tmp_path: Path) -> None:
    older_store(tmp_path)
    engine = FakeEngine(ANSWER)
    with serving(tmp_path, engine) as server:
        asked_for(engine, server)
        others = [task(10 * number, f"https://shop.example/{number}.jpg") for number in ANSWERED]
        results = server.predict(*others).json()["results"]
        assert [json.dumps(result) for result in results] == [expected(10 * number, number) for number in ANSWERED]
        assert len(engine.requests) == 1


def test_what_no_reply_held_is_pushed_as_it_was_stored(tmp_path: Path) -> None:
    older_store(tmp_path)
    engine = FakeEngine(ANSWER)
    with fake_server() as label_studio:
        label_studio.add_project(12, 0, CONFIG)
        label_studio.tasks[12] = {*ANSWERED, WAITING}
        access = {"label_studio_url": label_studio.url, "label_studio_api_key": LEGACY_KEY}
        with serving(tmp_path, engine, delivery=AT_ONCE, **access):
            until(lambda: states(tmp_path) == {"delivered": 5, "failed": 1})
        pushed = {item["task"]: item for _, item in label_studio.rows}
    assert len(label_studio.rows) == 5
    for number in ANSWERED:
        assert pushed[number] == {**prediction_0_1_0(contents_0_1_0()[number], number), "task": number}
    assert len(engine.requests) == 1


def records(data_dir: Path, engine: FakeEngine) -> list[dict[str, Any]]:
    """Of a bulk run over the pictures of the tasks that are answered."""

    async def go() -> list[Outcome]:
        answers = Answers.open(data_dir, VERSION)
        annotator = LocalAnnotator(engine, cast(ImageFetcher, FakeImages()), RECIPE, VERSION, answers)
        items = [
            Item(f"task-{n}", Found(f"https://shop.example/{n}.jpg", f"{n}", is_file=False, task_id=n))
            for n in ANSWERED
        ]
        try:
            return [await annotator.annotate(item) for item in items]
        finally:
            await answers.aclose()

    outcomes = asyncio.run(go())
    assert all(isinstance(outcome, Record) for outcome in outcomes)
    return [dict(outcome.line) for outcome in outcomes]


def test_a_bulk_run_beside_the_server_uses_the_answers(tmp_path: Path) -> None:
    older_store(tmp_path)
    idle = FakeEngine(ANSWER)
    with serving(tmp_path):
        found = dict(zip(ANSWERED, records(tmp_path, idle), strict=True))
    assert idle.requests == []
    assert found[1] == {
        "image_id": "task-1",
        "caption": ANSWER["caption"],
        "tags": ["连衣裙", "冬季"],
        "fields": {"caption": ANSWER["caption"], "category": "服饰 / 女装 / 连衣裙", "season": "冬季"},
        "confidence": {"category": 0.9695, "season": 0.992},
        "score": 0.9695,
        "needs_review": False,
        "review_reasons": [],
        "model_version": VERSION,
        "image": "https://shop.example/1.jpg",
        "task_id": 1,
    }
    doubtful = found[DOUBTFUL]
    assert doubtful["fields"] == {"caption": "看不清", "category": "服饰 / 女装 / 连衣裙", "season": None}
    assert doubtful["confidence"] == {"category": 0.9695, "season": 0.996}
    assert doubtful["review_reasons"] == ["caption：描述中出现“看不清”", "caption：描述只有 3 字，少于 30 字"]


def test_a_bulk_run_uses_the_answers_though_nobody_has_served_from_them_since(tmp_path: Path) -> None:
    older_store(tmp_path)
    idle = FakeEngine(ANSWER)
    assert [record["task_id"] for record in records(tmp_path, idle)] == list(ANSWERED)
    assert idle.requests == []
    engine = FakeEngine(ANSWER)
    with serving(tmp_path, engine) as server:  # what waited then waits still
        assert asked_for(engine, server) == [f"https://shop.example/{WAITING}.jpg"]


def test_a_bulk_run_beside_a_server_of_then_says_so_and_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    older_store(tmp_path)
    before = (tmp_path / FILE_NAME).read_bytes()
    engine, lock = FakeEngine(ANSWER), take_lock(tmp_path)
    assert len(records(tmp_path, engine)) == len(engine.requests) == len(ANSWERED)
    os.close(lock)
    assert "answers are neither looked up nor kept" in caplog.text
    assert "written by an older prelabel" in caplog.text
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_answers_of_both_forms_stand_side_by_side_and_are_read_after_a_restart(tmp_path: Path) -> None:
    older_store(tmp_path)
    with serving(tmp_path, FakeEngine(ANSWER)) as server:
        first = server.predict(*map(task, (*ANSWERED, WAITING, 7))).json()["results"]
    idle = FakeEngine(ANSWER)
    with serving(tmp_path, idle) as server:
        server.time.put_forward(AGO_S)
        again = server.predict(*map(task, (*ANSWERED, WAITING, 7))).json()["results"]
    assert all(result["result"] for result in first)
    assert json.dumps(again) == json.dumps(first)
    assert idle.requests == []


def test_a_work_whose_recipe_is_not_understood_any_more_has_no_prediction(tmp_path: Path) -> None:
    older_store(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection, connection:
        connection.execute("UPDATE recipe SET label_config = '<View/>'")
    with Store.open(tmp_path / FILE_NAME, 0.0) as store:
        recipes = Recipes(store, 256)
        [work] = store.due("12.1700000000", 1, time.time() + AGO_S)
        assert recipes.of(work.recipe) is None
        with pytest.raises(ValueError, match="not understood any more"):
            recipes.prediction(work, contents_0_1_0()[work.task_id])
