"""A person puts another picture into a task and asks again, over HTTP."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from backend.store.serving import FILE_NAME
from tests.backend.gate import GateEngine
from tests.backend.serving import predict_body, serving, task
from tests.limits import until


def picture(data_dir: Path) -> str:
    """The address that the store has for the only task."""
    with closing(sqlite3.connect(data_dir / FILE_NAME)) as connection:
        return str(connection.execute("SELECT image_url FROM work").fetchone()[0])


WRONG, RIGHT = "https://shop.example/wrong.jpg", "https://shop.example/right.jpg"


def test_a_task_whose_picture_was_changed_is_predicted_anew(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        server.predict(task(1, WRONG))
        server.predict(task(1, RIGHT))
        assert server.images.fetched == [WRONG, RIGHT]
        assert len(server.engine.requests) == 2


def test_a_picture_that_is_changed_while_the_earlier_one_is_in_work_is_predicted_next(tmp_path: Path) -> None:
    engine = GateEngine()
    with serving(tmp_path, engine) as server:
        server.predict_late(task(1, WRONG), when=lambda: engine.num_asked == 1)
        with server.asked(predict_body(task(1, RIGHT))):
            until(lambda: picture(tmp_path) == RIGHT)
            engine.open()
            until(lambda: engine.num_asked == 2)
        until(lambda: server.client.get("/status.json").json()["projects"][0]["num_answered"] == 1)
        assert server.images.fetched == [WRONG, RIGHT]
