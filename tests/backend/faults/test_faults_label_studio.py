"""Label Studio away, refusing the key, or changed under our work: what the pages of a running server say and do."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from backend.delivery.pace import DeliveryLimits
from backend.label_studio.client import MAX_REPLY_BYTES
from backend.label_studio.predictions import CallFailed, PredictionsClient
from tests.backend.delivery.fake_server import FakeServer, fake_server
from tests.backend.fake_label_studio import LEGACY_KEY, PERSONAL_KEY
from tests.backend.gate import GateEngine
from tests.backend.served import states
from tests.backend.serving import CONFIG, Server, predict_body, serving, task
from tests.limits import until

IMPATIENT = DeliveryLimits(poll_s=0.05, backoff_s=0.1, max_backoff_s=0.5, settle_s=0.2, probe_s=0.3)
"""The product's delivery with shorter waits."""


@pytest.fixture
def label_studio() -> Iterator[FakeServer]:
    with fake_server() as server:
        yield server


def access(url: str, key: str = LEGACY_KEY) -> dict[str, Any]:
    return {"label_studio_url": url, "label_studio_api_key": key}


def ask(server: Server, label_studio: FakeServer, number: int, engine: GateEngine) -> None:
    """Ask for all tasks of a project, before any of them is answered."""
    project = label_studio.add_project(number, 5, CONFIG)
    tasks = [task(task_id) for task_id in sorted(label_studio.tasks[number])]
    num_before = engine.num_asked
    body = {**predict_body(*tasks), "project": project}
    reply = server.post_late(body, when=lambda: engine.num_asked == num_before + 5)
    assert reply.json()["results"] == [[]] * 5


def status(server: Server) -> Any:
    return server.client.get("/status.json").json()


@pytest.mark.filterwarnings("ignore:The `parse_obj` method")  # of label-studio-sdk 2.1.2
@pytest.mark.parametrize("key", [LEGACY_KEY, PERSONAL_KEY], ids=["legacy token", "personal access token"])
def test_a_refused_key_is_told_and_delivery_goes_on_when_it_works_again(
    tmp_path: Path, label_studio: FakeServer, key: str
) -> None:
    engine = GateEngine()
    with serving(tmp_path, engine, delivery=IMPATIENT, **access(label_studio.url, key)) as server:
        keys, label_studio.keys = label_studio.keys, set()
        ask(server, label_studio, 12, engine)
        engine.open()
        until(lambda: server.client.get("/health").json()["work"]["delivery"] == "paused")
        delivery = status(server)["delivery"]
        assert delivery["paused_until"]
        assert key not in delivery["last_error"]
        assert "拒绝了 API 密钥" in server.client.get("/status").text
        assert server.metric("prelabel_delivery_paused") == 1
        before = len(label_studio.calls)
        until(lambda: len(label_studio.calls) >= before + 2)
        assert {path for _, path in label_studio.calls[before:]} <= {"/api/current-user/whoami", "/api/token/refresh"}
        assert states(tmp_path) == {"done": 5}, "nothing was thrown away"
        label_studio.fail("token", "502", "200 html")  # a proxy in the way at first
        label_studio.keys = keys
        until(lambda: states(tmp_path) == {"delivered": 5})
        assert server.client.get("/health").json()["work"]["delivery"] == "push"
        assert status(server)["delivery"]["paused_until"] is None
    assert label_studio.stored() == dict.fromkeys(label_studio.tasks[12], 1)


MORE = CONFIG.replace('<Choice value="夏季"/>', '<Choice value="夏季"/><Choice value="秋季"/>')


def config_changes(label_studio: FakeServer) -> None:
    """To one that cannot be pre-filled."""
    label_studio.configs[12] = '<View><Video name="video" value="$video"/></View>'


def tasks_go(label_studio: FakeServer) -> None:
    label_studio.tasks[12] = set()


def project_goes(label_studio: FakeServer) -> None:
    del label_studio.tasks[12]


@pytest.mark.parametrize(
    ("change", "counted", "reason", "said"),
    [
        (config_changes, "failures", "config_changed", "标注配置"),
        (tasks_go, "gone", "task_deleted", "任务已"),
        (project_goes, "gone", "project_deleted", "项目已"),
    ],
    ids=["label config", "tasks", "project"],
)
def test_what_changed_under_the_work_is_not_pushed_and_the_page_says_why(
    tmp_path: Path, label_studio: FakeServer, change: Callable[[FakeServer], None], counted: str, reason: str, said: str
) -> None:
    engine = GateEngine()
    with serving(tmp_path, engine, delivery=IMPATIENT, **access(label_studio.url)) as server:
        ask(server, label_studio, 12, engine)
        change(label_studio)
        engine.open()
        until(lambda: status(server)["projects"][0][counted] == {reason: 5})
        page = server.client.get("/status", params={"lang": "zh"}).text
        assert said in page
        assert reason not in page, "nobody gave this reason words"
        [project] = status(server)["projects"]
        assert project["num_failed"] == status(server)["delivery"]["num_dropped"] == (5 if counted == "failures" else 0)
        assert (project["num_queued"], project["num_running"], project["num_answered"]) == (0, 0, 0)
    assert label_studio.rows == []


def test_a_config_that_changes_in_the_middle_is_answered_by_the_new_one(
    tmp_path: Path, label_studio: FakeServer
) -> None:
    """Label Studio says nothing: the delivery finds it out."""
    engine = GateEngine()
    with serving(tmp_path, engine, delivery=IMPATIENT, **access(label_studio.url)) as server:
        ask(server, label_studio, 12, engine)
        before = status(server)["projects"][0]
        label_studio.configs[12] = MORE
        engine.open()
        until(lambda: status(server)["projects"][0]["num_delivered"] == 5)
        after = status(server)["projects"][0]
        assert (after["num_answered"], after["num_failed"], after["progress"]) == (5, 0, 1.0)
        assert (before["num_queued"] + before["num_running"], after["num_older"]) == (5, 0)
    versions = {item["model_version"] for _, item in label_studio.rows}
    assert len(versions) == 1
    assert label_studio.stored(*versions) == dict.fromkeys(label_studio.tasks[12], 1)


def test_what_failed_for_its_config_is_retried_under_the_present_one(tmp_path: Path, label_studio: FakeServer) -> None:
    engine = GateEngine()
    with serving(tmp_path, engine, delivery=IMPATIENT, **access(label_studio.url)) as server:
        ask(server, label_studio, 12, engine)
        config_changes(label_studio)
        engine.open()
        for _ in range(2):  # retried in vain, the tasks are still five
            until(lambda: status(server)["projects"][0]["failures"] == {"config_changed": 5})
            view = status(server)
            assert (view["delivery"]["num_dropped"], view["projects"][0]["progress"]) == (5, 0.0)
            press_retry(server)
        label_studio.configs[12] = MORE
        until(lambda: press_retry(server) and status(server)["projects"][0]["num_delivered"] == 5)
        assert status(server)["projects"][0]["num_failed"] == 0
    assert label_studio.stored() == dict.fromkeys(label_studio.tasks[12], 1)


def press_retry(server: Server) -> bool:
    """If it is there."""
    page = server.client.get("/status").text
    form = re.search(r'action="status/retry".*?</form>', page, re.DOTALL)
    if form:
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form[0]))
        reply = server.client.post("/status/retry", data=fields, headers={"origin": server.url})
        assert reply.status_code == 303, reply.text
    return True


def test_one_projects_trouble_and_all_other_trouble_leave_order_and_other_projects_alone(
    tmp_path: Path, label_studio: FakeServer
) -> None:
    engine = GateEngine()
    faults = ("reset", "500", "502", "503", "200 html", "301", "413", "commit_reset", "commit_502", "commit_wrong")
    label_studio.fail("import", *faults)
    label_studio.down_for = {12}
    with serving(tmp_path, engine, delivery=IMPATIENT, **access(label_studio.url)) as server:
        for number in (12, 13, 14):
            ask(server, label_studio, number, engine)
        engine.open()
        until(lambda: set(label_studio.stored()) == label_studio.tasks[13] | label_studio.tasks[14])
        assert status(server)["delivery"]["last_error"]
        assert server.client.get("/health").json()["work"]["delivery"] == "push"
        label_studio.down_for = set()
        until(lambda: states(tmp_path) == {"delivered": 15})
    assert set(label_studio.stored().values()) == {1}
    for number in (12, 13, 14):
        assert [item["task"] for about, item in label_studio.rows if about == number] == sorted(
            label_studio.tasks[number]
        )


@contextmanager
def endless(chunk: bytes, every_s: float) -> Iterator[str]:
    """A server whose replies have a head and then never end."""
    stop = threading.Event()
    with ExitStack() as open_until_the_end, socket.create_server(("127.0.0.1", 0)) as listener:

        def drip(connection: socket.socket) -> None:
            with suppress(OSError):
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[")
                while not stop.wait(every_s):
                    connection.sendall(chunk)

        def take() -> None:
            with suppress(OSError):
                while True:
                    connection = open_until_the_end.enter_context(listener.accept()[0])
                    dripping = threading.Thread(target=drip, args=(connection,))
                    dripping.start()
                    open_until_the_end.callback(dripping.join)

        taking = threading.Thread(target=take)
        taking.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stop.set()
            listener.shutdown(socket.SHUT_RDWR)
            taking.join()


@pytest.mark.parametrize(
    ("chunk", "every_s", "kind"),
    [(b" ", 0.02, "busy"), (b" " * (MAX_REPLY_BYTES // 8), 0.0, "too_large")],
    ids=["drips", "floods"],
)
def test_a_reply_that_never_ends_is_left_in_time(chunk: bytes, every_s: float, kind: str) -> None:
    with endless(chunk, every_s) as url, PredictionsClient(url, LEGACY_KEY, read_s=0.5, import_s=0.5) as client:
        with pytest.raises(CallFailed) as caught:
            client.current_project(12)
        assert caught.value.kind == kind
        with pytest.raises(CallFailed) as caught:
            client.import_predictions(12, [{"task": 1}])
        assert caught.value.kind == "in_doubt"


def test_a_label_studio_that_never_answers_holds_up_neither_the_pages_nor_the_end(tmp_path: Path) -> None:
    engine = GateEngine(10)
    with endless(b" ", 0.02) as url, serving(tmp_path, engine, max_slots=5, stop_s=2, **access(url)) as server:
        late = server.predict_late(*(task(n) for n in range(25)), when=lambda: engine.num_asked == 10 + 2 * 5)
        assert late.json()["results"].count([]) == 15
        server.time.put_forward(300)  # the delivery asks whether what was in the reply has arrived, and waits
        for path in ("/health", "/status.json", "/livez"):
            assert server.client.get(path).status_code == 200
    left = states(tmp_path)
    assert (left["returned"], sum(left.values())) == (10, 25)
