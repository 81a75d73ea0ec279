"""/predict over HTTP with a real store: nothing is lost, computed twice, or told to Label Studio twice."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend import durable
from backend.durable import can_be_kept
from backend.errors import StoreBusy, StoreError, StoreFull
from backend.http.requests import TaskInput
from tests.backend.delivery.fake_server import fake_server
from tests.backend.fake_label_studio import LEGACY_KEY
from tests.backend.gate import GateEngine
from tests.backend.serving import ANSWER, CONFIG, Server, predict_body, serving, setup_body, task
from tests.fakes import FakeEngine
from tests.limits import until


def work(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = server.client.get("/health").json()["work"]
    return found


def until_done(server: Server) -> None:
    until(lambda: work(server)["waiting"] == 0)


def ask(server: Server, *tasks: dict[str, Any], **params: Any) -> list[Any]:
    results: list[Any] = server.predict(*tasks, **params).json()["results"]
    return results


@pytest.fixture
def quick_label_studio(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes no time to choose tasks and to store predictions, and so may ask again at once."""
    for name in ("PREPARE_S", "PREPARE_PER_TASK_S", "STORE_PER_PREDICTION_S"):
        monkeypatch.setattr(durable, name, 0.0)


@pytest.mark.usefixtures("quick_label_studio")
def test_what_misses_the_deadline_goes_on_and_is_there_at_the_next_click(tmp_path: Path) -> None:
    engine = GateEngine(3)
    tasks = [task(n) for n in range(10)]
    with serving(tmp_path, engine, predict_deadline_s=0.5) as server:
        first = ask(server, *tasks)
        assert [bool(result) for result in first].count(True) == 3
        until(lambda: work(server) == {"waiting": 7, "delivery": "reply"})
        engine.open()
        until_done(server)
        rest = [t for t, result in zip(tasks, first, strict=True) if result == []]
        second = ask(server, *rest)
        assert all(result["result"] for result in second)
        assert engine.num_done == 10
        third = ask(server, *tasks)
        answered = [result for result in first if result] + second
        assert sorted(map(repr, third)) == sorted(map(repr, answered)), "the same to the region ids"
        assert engine.num_done == 10


def test_the_same_request_twice_at_once_is_computed_once(tmp_path: Path) -> None:
    engine = GateEngine()
    replies: list[list[Any]] = []
    body = predict_body(*(task(n) for n in range(5)))
    with serving(tmp_path, engine) as server:
        askers = [
            threading.Thread(
                target=lambda: replies.append(
                    httpx.post(server.url + "/predict", json=body, trust_env=False).json()["results"]
                )
            )
            for _ in range(2)
        ]
        for asker in askers:
            asker.start()
        until(lambda: engine.num_asked == 5)
        engine.open()
        for asker in askers:
            asker.join()
        assert engine.num_done == 5
        for one, other in zip(*replies, strict=True):
            assert sorted(map(bool, (one, other))) == [False, True], "Label Studio would store both"


def test_the_addresses_of_a_request_are_looked_at_beside_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred thousand of them take over a second, in which /health could not be answered."""
    lookers: set[int] = set()
    loops: set[int] = set()

    class Engine(FakeEngine):
        async def start(self) -> None:
            loops.add(threading.get_ident())
            await super().start()

    def look(task: TaskInput) -> bool:
        lookers.add(threading.get_ident())
        return can_be_kept(task)

    monkeypatch.setattr(durable, "can_be_kept", look)
    with serving(tmp_path, Engine(ANSWER)) as server:
        assert all(ask(server, *(task(n) for n in range(3))))
    assert lookers
    assert not lookers & loops


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
        timer = threading.Timer(0.3, engine.open)
        timer.start()
        results = ask(server, *(task(n, "https://shop.example/same.jpg") for n in range(8)))
        timer.join()
        assert engine.num_done == 1
        assert len({result["result"][0]["id"] for result in results}) == 8
        assert len({repr(result["result"][0]["value"]) for result in results}) == 1


@pytest.mark.usefixtures("quick_label_studio")
def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    engine = GateEngine(4)
    tasks = [task(n) for n in range(12)]
    with serving(tmp_path, engine, predict_deadline_s=0.4, stop_s=3) as server:
        ask(server, *tasks)
    again = FakeEngine(ANSWER)
    with serving(tmp_path, again) as server:
        until_done(server)
        assert len(again.requests) == 8
        assert all(result["result"] for result in ask(server, *tasks))
        assert len(again.requests) == 8


def test_a_client_that_leaves_gets_its_work_done(tmp_path: Path) -> None:
    engine = GateEngine()
    with serving(tmp_path, engine) as server:
        with pytest.raises(httpx.ReadTimeout):
            server.client.post("/predict", json=predict_body(task(1), task(2)), timeout=0.3)
        engine.open()
        until_done(server)
        assert (engine.num_done, engine.num_cancelled) == (2, 0)
        assert all(result["result"] for result in ask(server, task(1), task(2)))
        assert engine.num_done == 2


def test_many_clients_that_leave_hold_no_place_of_a_request(tmp_path: Path) -> None:
    engine = GateEngine()
    with serving(tmp_path, engine, max_requests=4) as server:
        for number in range(20):
            with pytest.raises(httpx.ReadTimeout):
                server.client.post("/predict", json=predict_body(task(number)), timeout=0.05)
        engine.open()
        until(lambda: server.predict(task(99)).status_code == 200)
        until_done(server)
        accepted = engine.num_done
        ask(server, *(task(number) for number in range(20)))
        assert engine.num_done <= 21
        assert accepted > 4


def test_a_changed_config_is_asked_anew(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        before = ask(server, task(1))
        server.client.post("/setup", json=setup_body(extra_params={"extra_instructions": "Mention the collar."}))
        after = ask(server, task(1))
        assert before[0]["model_version"] != after[0]["model_version"]
        assert len(server.engine.requests) == 2


@pytest.mark.usefixtures("quick_label_studio")
def test_tasks_the_store_cannot_keep_are_answered_beside_those_it_can(tmp_path: Path) -> None:
    secret = "https://bucket.example/1.jpg?X-Amz-Signature=c4n4ry"
    tasks = [task(1), {**task(), "id": "text"}, task(3, secret), task(2**70), task(5, "data:image/png;base64,c4n4ry")]
    with serving(tmp_path) as server:
        assert all(result["result"] for result in ask(server, *tasks))
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
    with serving(tmp_path, GateEngine(), max_tasks=1, predict_deadline_s=0.1, stop_s=2) as server:
        replies = [server.predict(task(number)) for number in range(12)]
        assert [reply.status_code for reply in replies] == [200] * 10 + [503] * 2
        assert replies[-1].headers["retry-after"]
        assert server.predict(task(99), context={"result": []}).status_code == 200


@pytest.mark.parametrize("error", [StoreFull("The disk is full."), StoreBusy("It is locked.")], ids=["full", "locked"])
def test_while_the_store_takes_nothing_a_person_is_served_and_bulk_work_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: StoreError
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise error

    with serving(tmp_path) as server:
        with monkeypatch.context() as broken:
            broken.setattr("backend.store.store.accepting.accept", refuse)
            assert ask(server, task(1))[0]["result"]
            bulk = server.predict(task(2), task(3))
            assert (bulk.status_code, bulk.headers["retry-after"]) == (503, "30")
        assert all(result["result"] for result in ask(server, task(2), task(3)))


def test_setup_says_how_the_rest_gets_to_label_studio(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving(tmp_path) as server, caplog.at_level("INFO"):
        server.client.post("/setup", json=setup_body())
    assert "set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY to have it pushed" in caplog.text


def test_the_rest_is_delivered_exactly_once(tmp_path: Path) -> None:
    engine = GateEngine(5)
    with fake_server() as label_studio:
        label_studio.add_project(12, 20, CONFIG)
        tasks = [task(number) for number in sorted(label_studio.tasks[12])]
        access = {"label_studio_url": label_studio.url, "label_studio_api_key": LEGACY_KEY}
        with serving(tmp_path, engine, predict_deadline_s=0.5, **access) as server:
            assert work(server)["delivery"] == "push"
            first = ask(server, *tasks)
            returned = [{**result, "task": t["id"]} for t, result in zip(tasks, first, strict=True) if result]
            assert len(returned) == 5
            label_studio.store(12, returned)  # as Label Studio does with a reply
            engine.open()
            until(lambda: len(label_studio.rows) == 20)
            until_done(server)
            second = ask(server, *tasks)
            told = {item["task"] for _, item in label_studio.rows}
            assert told == {t["id"] for t in tasks}
            for t, result in zip(tasks, second, strict=True):
                pushed = next(item for _, item in label_studio.rows if item["task"] == t["id"])
                assert result in ([], {k: pushed[k] for k in result}), "the same to the region ids"
        assert set(label_studio.stored().values()) == {1}
        assert engine.num_done == 20


def test_a_second_prelabel_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    from backend.app import create_app

    with serving(tmp_path) as server, pytest.raises(StoreError, match="is served by another prelabel"):
        create_app(server.settings, FakeEngine(ANSWER), server.images)


def test_a_store_that_hangs_holds_no_reply_beyond_its_deadline(tmp_path: Path) -> None:
    with serving(tmp_path, predict_deadline_s=0.5) as server:
        with closing(sqlite3.connect(tmp_path / "prelabel.db")) as other:
            other.execute("BEGIN IMMEDIATE")
            replies: list[httpx.Response] = []
            askers = [
                threading.Thread(target=lambda: replies.append(server.predict(task(1), task(2)))) for _ in range(6)
            ]
            began = time.monotonic()
            for asker in askers:
                asker.start()
            for asker in askers:
                asker.join()
            assert {reply.status_code for reply in replies} == {503}
            assert time.monotonic() - began < 4, "not one after the other"
            other.execute("ROLLBACK")
        until_done(server)
        until(lambda: server.client.get("/status.json").json()["totals"]["work"]["done"] == 2)
