"""Label Studio chooses tasks, takes its time, asks, and takes its time again to store the reply: no task gets two."""

from __future__ import annotations

import sqlite3
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from backend.engine.api import EngineStatus
from backend.store.serving import FILE_NAME
from tests.backend.delivery.fake_server import FakeServer, fake_server
from tests.backend.fake_label_studio import LEGACY_KEY
from tests.backend.gate import GateEngine
from tests.backend.served import states
from tests.backend.serving import ANSWER, CONFIG, Server, predict_body, serving, task
from tests.fakes import READY, FakeEngine
from tests.limits import until

RESTARTING = EngineStatus("restarting")
READY_STATUS = EngineStatus("ready", "ready", 1.0, READY)


def access(label_studio: FakeServer) -> dict[str, str]:
    return {"label_studio_url": label_studio.url, "label_studio_api_key": LEGACY_KEY}


def clicked(server: Server, label_studio: FakeServer, tasks: list[dict[str, Any]]) -> list[Any]:
    """Send `tasks` as Label Studio does, and store what it would store."""
    results: list[Any] = server.client.post("/predict", json=predict_body(*tasks)).json()["results"]
    label_studio.store(12, [{**r, "task": t["id"]} for t, r in zip(tasks, results, strict=True) if r])
    return results


def per_task(label_studio: FakeServer) -> Counter[int]:
    return Counter(label_studio.stored().values())


def test_what_is_pushed_while_label_studio_prepares_a_click_is_not_in_the_reply_to_it(tmp_path: Path) -> None:
    engine = GateEngine()
    with fake_server() as label_studio:
        label_studio.add_project(12, 20, CONFIG)
        chosen = [task(number) for number in sorted(label_studio.tasks[12])]
        with serving(tmp_path, engine, **access(label_studio)) as server:
            late = server.predict_late(*chosen, when=lambda: engine.num_asked == 20)
            assert late.json()["results"] == [[]] * 20
            server.time.hold_wall()
            engine.open()
            until(lambda: states(tmp_path) == {"delivered": 20})
            assert clicked(server, label_studio, chosen) == [[]] * 20
            assert per_task(label_studio) == {1: 20}


def test_what_is_pushed_while_a_click_waits_for_the_model_is_not_in_the_reply_to_it(tmp_path: Path) -> None:
    engine = GateEngine()
    with fake_server() as label_studio:
        label_studio.add_project(12, 20, CONFIG)
        chosen = [task(number) for number in sorted(label_studio.tasks[12])]
        label_studio.down_for.add(12)
        with serving(tmp_path, engine, **access(label_studio)) as server, ThreadPoolExecutor(1) as beside:
            with server.asked(predict_body(*chosen)):
                until(lambda: engine.num_asked == 20)
            engine.open()
            until(lambda: states(tmp_path) == {"done": 20})
            engine.status = RESTARTING
            click = beside.submit(clicked, server, label_studio, chosen)
            label_studio.down_for.clear()
            until(lambda: len(label_studio.stored()) == 20)
            engine.status = READY_STATUS
            click.result()
        assert per_task(label_studio) == {1: 20}


def test_a_click_during_a_restart_of_the_model_is_not_lost(tmp_path: Path) -> None:
    engine = FakeEngine(ANSWER)
    with fake_server() as label_studio:
        label_studio.add_project(12, 20, CONFIG)
        chosen = [task(number) for number in sorted(label_studio.tasks[12])]
        with serving(tmp_path, engine, **access(label_studio)) as server:
            until((tmp_path / "model.json").exists)
            engine.status = RESTARTING
            late = server.predict_late(*chosen, when=lambda: states(tmp_path) == {"queued": 20})
            assert late.json()["results"] == [[]] * 20
            engine.status = READY_STATUS
            until(lambda: len(label_studio.stored()) == 20)
        assert per_task(label_studio) == {1: 20}


def test_a_large_reply_is_looked_up_only_when_label_studio_can_have_stored_it(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        server.time.hold_wall()
        now = server.time.wall()
        server.predict(*(task(number) for number in range(100)))
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        [(check_at, told_at)] = connection.execute(
            "SELECT min(check_at), min(told_at) FROM work WHERE state = 'returned'"
        ).fetchall()
    assert check_at == pytest.approx(now + 120 + 0.3 * 100)
    assert told_at == pytest.approx(now + 0.2 * 100)
