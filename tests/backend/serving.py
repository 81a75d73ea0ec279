"""A real HTTP server on a free port, and raw sockets for what no HTTP client would send."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx

from backend.api.app import create_app
from backend.api.bodies import BodyLimits
from backend.api.connections import ConnectionLimits, ListeningServer, ServerConfig
from backend.delivery.pace import DeliveryLimits
from backend.predict.label_configs import schema_of
from backend.queue.service import Timing
from backend.settings import Settings, load_settings
from backend.status.watch import WatchPace
from tests.backend.steered import SteeredTime
from tests.fakes import FakeEngine, FakeImages
from tests.limits import TEST_S, WAIT_S, until

CONFIG = """<View>
  <Image name="image" value="$image"/>
  <TextArea name="caption" toName="image"/>
  <Taxonomy name="category" toName="image">
    <Choice value="服饰"><Choice value="女装"><Choice value="连衣裙"/></Choice></Choice>
  </Taxonomy>
  <Choices name="season" toName="image"><Choice value="夏季"/><Choice value="冬季" alias="winter"/></Choices>
</View>"""
CAPTION = "一位年轻女性身穿白色长款连衣裙，手持米色折叠遮阳伞，面朝大海站立，整体氛围清新自然，适合夏季女装推广。"
ANSWER = {"caption": CAPTION, "category": (("服饰", "女装", "连衣裙"),), "season": ("冬季",)}


NEVER_S = 10**9


class Server:
    def __init__(
        self, port: int, settings: Settings, engine: FakeEngine, images: FakeImages, steered: SteeredTime
    ) -> None:
        self.port = port
        self.settings = settings
        self.engine = engine
        self.images = images
        self.url = f"http://127.0.0.1:{port}"
        self.time = steered
        self.client = httpx.Client(base_url=self.url, trust_env=False, timeout=WAIT_S)

    def predict(self, *tasks: dict[str, Any], config: str = CONFIG, **params: Any) -> httpx.Response:
        return self.client.post("/predict", json=predict_body(*tasks, config=config, **params))

    def post_late(self, body: dict[str, Any], when: Callable[[], object]) -> httpx.Response:
        """Ask /predict, and let the deadline of the request strike when `when()` is true."""
        with ThreadPoolExecutor(1) as beside:
            asking = beside.submit(self.client.post, "/predict", json=body)
            try:
                until(lambda: asking.done() or when())
            finally:
                self.time.put_forward(self.settings.predict_deadline_s)
            return asking.result()

    def predict_late(self, *tasks: dict[str, Any], when: Callable[[], object]) -> httpx.Response:
        """As `post_late`, for these tasks."""
        return self.post_late(predict_body(*tasks), when)

    def asked(self, body: dict[str, Any]) -> AbstractContextManager[None]:
        return asked(self.port, body)

    @property
    def num_left(self) -> int:
        """How many clients the server has seen leave without a reply."""
        return int(self.metric("prelabel_requests_total", route="/predict", status="499"))

    def metric(self, name: str, **labels: str) -> float:
        """The value of one sample of /metrics, 0 if it is not there."""
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        for line in self.client.get("/metrics").text.splitlines():
            sample, _, value = line.rpartition(" ")
            if sample.partition("{")[0] == name and all(label in sample for label in wanted):
                return float(value)
        return 0.0

    def raw(self, data: bytes, *, then_close: bool = False) -> bytes:
        """Send bytes as they are and return everything that comes back until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S) as connection:
            connection.sendall(data)
            if then_close:
                connection.shutdown(socket.SHUT_WR)
            return read_all(connection)


@contextmanager
def asked(port: int, body: dict[str, Any]) -> Iterator[None]:
    """A client that asks /predict, and leaves without a reply at the end of the block."""
    content = json.dumps(body).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(content))
        connection.sendall(content)
        yield


def read_all(connection: socket.socket) -> bytes:
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except ConnectionResetError:
        pass
    return received


@contextmanager
def serving(
    data_dir: Path,
    engine: FakeEngine | None = None,
    *,
    body_limits: BodyLimits | None = None,
    connections: ConnectionLimits | None = None,
    images: Any = None,
    delivery: DeliveryLimits | None = None,
    watch: WatchPace | None = None,
    **settings: Any,
) -> Iterator[Server]:
    """`prelabel serve` in a thread. A request's deadline is so far away that it strikes only in `post_late`, and no
    check is made without `watch`."""
    schema_of(CONFIG)  # else the first request of each server would start a process to parse it
    engine = engine or FakeEngine(ANSWER)
    images = images or FakeImages()
    steered = SteeredTime()
    chosen = load_settings({"data_dir": data_dir, **settings}).model_copy(update={"predict_deadline_s": TEST_S})
    body_limits = body_limits or BodyLimits(chosen.max_body_bytes, read_s=NEVER_S, parse_s=NEVER_S)
    timing = Timing(steered.wall, WAIT_S, delivery or DeliveryLimits(), watch or WatchPace(first_s=NEVER_S))
    app = create_app(chosen, engine, images, body_limits, timing)
    connections = connections or ConnectionLimits(head_s=NEVER_S, idle_s=NEVER_S, reply_s=NEVER_S)
    server = ListeningServer(ServerConfig(app, connections, 30))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: steered.run(server.serve([listener])))
        thread.start()
        try:
            until(lambda: server.started or not thread.is_alive())
            running = Server(listener.getsockname()[1], chosen, engine, images, steered)
            with running.client:
                yield running
        finally:
            server.should_exit = True
            steered.call(app.state.backend.core.worker.answer_now)  # whoever still waits for a reply gets it
            thread.join(WAIT_S)
    assert not thread.is_alive(), "the server did not stop"


def task(task_id: int = 1, image: str = "", **data: Any) -> dict[str, Any]:
    """A task as Label Studio 1.23 serialises it; each has a picture of its own unless told."""
    image = image or f"https://shop.example/{task_id}.jpg"
    return {
        "id": task_id, "data": {"image": image, **data}, "meta": {}, "project": 12, "annotations": [],
        "predictions": [], "inner_id": task_id, "is_labeled": False, "overlap": 1, "file_upload": None,
    }  # fmt: skip


def predict_body(*tasks: dict[str, Any], config: str = CONFIG, **params: Any) -> dict[str, Any]:
    """The body of /predict as Label Studio 1.23 sends it."""
    return {
        "tasks": list(tasks), "project": "12.1700000000", "label_config": config,
        "params": {"login": None, "password": None, "context": None, **params},
    }  # fmt: skip


def setup_body(config: str = CONFIG, extra_params: Any = None, project: str = "12.1700000000") -> dict[str, Any]:
    """The body of /setup as Label Studio 1.23 sends it."""
    return {
        "project": project, "schema": config, "hostname": "http://localhost:8080",
        "access_token": "0123456789abcdef", "extra_params": extra_params,
    }  # fmt: skip


def strict_json(text: str) -> Any:
    """Parse as a browser does: no NaN."""

    def refuse(name: str) -> Any:
        raise ValueError(name)

    return json.loads(text, parse_constant=refuse)
