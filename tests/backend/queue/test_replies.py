"""/predict over HTTP with a real store: nothing is lost, computed twice, or told to Label Studio twice."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from backend.errors import StoreError
from backend.predict.task import TaskInput
from backend.queue.requests import can_be_kept
from backend.store.serving import FILE_NAME
from tests.backend.gate import GateEngine
from tests.backend.served import states
from tests.backend.serving import ANSWER, CONFIG, Server, predict_body, serving, setup_body, task
from tests.fakes import FakeEngine
from tests.limits import TEST_S, until


def work(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = server.client.get("/health").json()["work"]
    return found


def until_done(server: Server) -> None:
    until(lambda: work(server)["waiting"] == 0)


def open_replies(data_dir: Path) -> int:
    """How many requests wait for rows of work, row by row."""
    with closing(sqlite3.connect(data_dir / FILE_NAME)) as connection:
        return int(connection.execute("SELECT coalesce(sum(open_replies), 0) FROM work").fetchone()[0])


def time_passes(server: Server) -> None:
    """So much that Label Studio has stored what it was told before it asks again."""
    server.time.put_forward(2 * TEST_S)


def ask(server: Server, *tasks: dict[str, Any], **params: Any) -> list[Any]:
    results: list[Any] = server.predict(*tasks, **params).json()["results"]
    return results


def test_what_misses_the_deadline_goes_on_and_is_there_at_the_next_click(tmp_path: Path) -> None:
    engine = GateEngine(3)
    tasks = [task(n) for n in range(10)]
    with serving(tmp_path, engine, max_slots=2) as server:
        late = server.predict_late(*tasks, when=lambda: engine.num_asked == 3 + 2 * 2)  # three places are free again
        first = late.json()["results"]
        assert [bool(result) for result in first].count(True) == 3
        assert server.metric("prelabel_task_failures_total", reason="deadline") == 7
        until(lambda: work(server) == {"waiting": 7, "delivery": "reply"})
        engine.open()
        until_done(server)
        time_passes(server)
        rest = [t for t, result in zip(tasks, first, strict=True) if result == []]
        second = ask(server, *rest)
        assert all(result["result"] for result in second)
        assert engine.num_done == 10
        time_passes(server)
        third = ask(server, *tasks)
        answered = [result for result in first if result] + second
        assert sorted(map(repr, third)) == sorted(map(repr, answered)), "the same to the region ids"
        assert (engine.num_done, engine.num_cancelled) == (10, 0)


def test_the_same_request_twice_at_once_is_computed_once(tmp_path: Path) -> None:
    engine = GateEngine()
    tasks = [task(n) for n in range(5)]
    with serving(tmp_path, engine) as server, ThreadPoolExecutor(2) as beside:
        asking = [beside.submit(ask, server, *tasks) for _ in range(2)]
        until(lambda: open_replies(tmp_path) == 10)
        engine.open()
        replies = [future.result() for future in asking]
        assert engine.num_done == 5
        for one, other in zip(*replies, strict=True):
            assert sorted(map(bool, (one, other))) == [False, True], "Label Studio would store both"


@pytest.mark.parametrize("image", ["https://shop.example/a.jpg", "data:image/png;base64,AAAA"], ids=["store", "memory"])
def test_the_picture_of_a_single_task_does_not_queue_with_those_of_bulk_work(tmp_path: Path, image: str) -> None:
    with serving(tmp_path) as server:
        assert all(ask(server, task(1, image)))
        assert all(ask(server, *(task(n, f"{image}{n}") for n in (2, 3))))
        assert server.images.waited_for == [image]
        assert len(server.images.fetched) == 3


def test_identical_pictures_are_computed_once(tmp_path: Path) -> None:
    engine = GateEngine()
    with serving(tmp_path, engine) as server:
        with ThreadPoolExecutor(1) as beside:
            asking = beside.submit(ask, server, *(task(n, "https://shop.example/same.jpg") for n in range(8)))
            until(lambda: states(tmp_path) == {"running": 8} and engine.num_asked)
            engine.open()
            results = asking.result()
        assert engine.num_done == 1
        assert len({result["result"][0]["id"] for result in results}) == 8
        assert len({repr(result["result"][0]["value"]) for result in results}) == 1


def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    engine = GateEngine(4)
    tasks = [task(n) for n in range(12)]
    with serving(tmp_path, engine, max_slots=2, stop_s=2) as server:
        server.predict_late(*tasks, when=lambda: engine.num_asked == 4 + 2 * 2)
    again = FakeEngine(ANSWER)
    with serving(tmp_path, again) as server:
        until_done(server)
        assert len(again.requests) == 8
        time_passes(server)
        assert all(result["result"] for result in ask(server, *tasks))
        assert len(again.requests) == 8


def test_requests_for_one_task_under_two_label_configs_all_end(tmp_path: Path) -> None:
    """However they meet in the store: only a deadline, which never strikes here, would end one that waits for a row
    which has moved."""
    other = CONFIG.replace("夏季", "秋季")
    with serving(tmp_path, FakeEngine(ANSWER)) as server, ThreadPoolExecutor(4) as beside:
        for config in (CONFIG, other):
            server.predict(task(0), config=config)
        for n in range(1, 20):
            asked = [beside.submit(server.predict, task(n), config=config) for config in (CONFIG, other) * 2]
            assert {one.result().status_code for one in asked} == {200}
        until_done(server)
        assert not states(tmp_path).keys() & {"queued", "running"}


def test_a_client_that_leaves_gets_its_work_done(tmp_path: Path) -> None:
    engine = GateEngine()
    with serving(tmp_path, engine) as server:
        with server.asked(predict_body(task(1), task(2))):
            until(lambda: engine.num_asked == 2)
        until(lambda: server.num_left == 1)
        engine.open()
        until_done(server)
        assert (engine.num_done, engine.num_cancelled) == (2, 0)
        assert all(result["result"] for result in ask(server, task(1), task(2)))
        assert engine.num_done == 2


def test_many_clients_that_leave_hold_no_place_of_a_request(tmp_path: Path) -> None:
    engine = GateEngine()
    with serving(tmp_path, engine, max_requests=4) as server:
        for number in range(20):
            with server.asked(predict_body(task(number))):
                until(lambda number=number: sum(states(tmp_path).values()) == number + 1)  # type: ignore[misc]
            until(lambda number=number: server.num_left == number + 1)  # type: ignore[misc]
        engine.open()
        assert server.predict(task(99)).status_code == 200
        until_done(server)
        ask(server, *(task(number) for number in range(20)))
        assert engine.num_done == 21


def test_a_changed_config_is_asked_anew(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        before = ask(server, task(1))
        server.client.post("/setup", json=setup_body(extra_params={"extra_instructions": "Mention the collar."}))
        after = ask(server, task(1))
        assert before[0]["model_version"] != after[0]["model_version"]
        assert len(server.engine.requests) == 2


def test_tasks_the_store_cannot_keep_are_answered_beside_those_it_can(tmp_path: Path) -> None:
    secret = "https://bucket.example/1.jpg?X-Amz-Signature=c4n4ry"
    tasks = [task(1), {**task(), "id": "text"}, task(3, secret), task(5, "data:image/png;base64,c4n4ry")]
    with serving(tmp_path) as server:
        assert all(result["result"] for result in ask(server, *tasks))
        time_passes(server)
        assert [result["result"][0]["id"] for result in ask(server, *tasks)]
    on_disk = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"c4n4ry" not in on_disk


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://shop.example/1.jpg", True),
        (None, True),
        ("https://oss.example/1.jpg?Signature=b", True),
        (" data:image/png;base64,AAAA", False),
        ("https://shop.example/" + "a" * 10_000, False),
    ],
)
def test_no_picture_inside_an_address_is_kept(url: str | None, kept: bool) -> None:
    assert can_be_kept(TaskInput(1, url)) is kept


def test_too_much_waiting_work_is_refused_with_a_time_to_come_back(tmp_path: Path) -> None:
    engine = GateEngine()
    with (
        serving(tmp_path, engine, max_body_bytes=10 * 1024, stop_s=2) as server,
        ThreadPoolExecutor(1) as beside,
        ExitStack() as clients,
    ):
        for number in range(10):
            clients.enter_context(server.asked(predict_body(*(task(10 * number + n) for n in range(10)))))
        until(lambda: work(server)["waiting"] == 100)
        refused = server.predict(task(1_000))
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "engine_busy")
        assert refused.headers["retry-after"]
        person = beside.submit(server.predict, task(1_001), context={"result": []})
        until(lambda: engine.num_asked == 101)
        engine.open()
        assert person.result().status_code == 200


def test_setup_says_how_the_rest_gets_to_label_studio(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving(tmp_path) as server, caplog.at_level("INFO"):
        server.client.post("/setup", json=setup_body())
    assert "set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY to have it pushed" in caplog.text


def test_a_second_prelabel_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    from backend.api.app import create_app

    with serving(tmp_path) as server, pytest.raises(StoreError, match="is served by another prelabel"):
        create_app(server.settings, FakeEngine(ANSWER), server.images)


def test_a_store_that_hangs_holds_no_reply_beyond_its_deadline(tmp_path: Path) -> None:
    """Six clients ask, more than there are threads for the store."""
    with serving(tmp_path) as server, ThreadPoolExecutor(6) as beside:
        with closing(sqlite3.connect(tmp_path / FILE_NAME)) as other:
            other.execute("BEGIN IMMEDIATE")
            asking = [beside.submit(server.predict, task(1), task(2)) for _ in range(6)]

            def all_are_refused() -> bool:
                server.time.put_forward(TEST_S)
                return all(reply.done() for reply in asking)

            until(all_are_refused)
            assert {reply.result().status_code for reply in asking} == {503}
            other.execute("ROLLBACK")
        until_done(server)
        until(lambda: server.client.get("/status.json").json()["totals"]["work"]["done"] == 2)
