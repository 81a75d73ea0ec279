"""A backend under load, requests as Label Studio sends them, and hosts that never answer.

Each request has a connection of its own, as Label Studio's have. A request that fails is a Reply with status 0.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from backend.commands.demo.local_backend import running_backend
from benchmarks.pictures import picture_server
from label_config.ready_made import ready_made

CONFIG = ready_made("garments.zh")
NOTE = "x" * 1_000
"""What a task carries beside its picture."""
_POOL = ThreadPoolExecutor(1_000)


@dataclass(frozen=True, slots=True)
class Reply:
    """`seconds`: from opening the connection to the last byte."""

    status: int
    seconds: float
    body: bytes = b""

    def results(self) -> list[Any]:
        """The items of a reply to /predict; none if it is no such reply."""
        results: list[Any] = json.loads(self.body)["results"] if self.status == 200 else []
        return results

    def num_predicted(self) -> int:
        return sum(bool(result) for result in self.results())


def call(url: str, path: str, body: bytes | None = None, timeout_s: float = 10.0) -> Reply:
    """GET `path`, or POST `body` to it."""
    headers = {"Content-Type": "application/json", "Connection": "close"}
    started = time.perf_counter()
    try:
        with closing(HTTPConnection(url.removeprefix("http://"), timeout=timeout_s)) as connection:
            connection.request("GET" if body is None else "POST", path, body, headers)
            response = connection.getresponse()
            status, content = response.status, response.read()
    except (OSError, HTTPException):
        status, content = 0, b""
    return Reply(status, time.perf_counter() - started, content)


def started(work: Callable[[], None]) -> Future[None]:
    """`work` in a thread of its own."""
    return _POOL.submit(work)


def predict(url: str, body: bytes, timeout_s: float = 180.0) -> Future[Reply]:
    """Start a /predict and return at once."""
    return _POOL.submit(call, url, "/predict", body, timeout_s)


@contextmanager
def serving(folder: Path, **settings: object) -> Iterator[tuple[str, str]]:
    """A backend whose model is loaded: its address, and that of the pictures it may fetch.

    `settings` as `prelabel serve` has them, in lower case.
    """
    env = {f"PRELABEL_{name.upper()}": str(value) for name, value in settings.items()}
    with (
        picture_server() as pictures,
        running_backend(folder, {"PRELABEL_ALLOWED_NETWORKS": "127.0.0.0/8", **env}) as backend,
    ):
        backend.wait_until_ready()
        yield backend.url, pictures


@contextmanager
def polled(pause_s: float, url: str, path: str, bodies: Iterator[bytes] | None = None) -> Iterator[list[Reply]]:
    """Ask again and again while the block runs, each time with the next body; the replies so far are in the list."""
    replies: list[Reply] = []
    over = threading.Event()

    def poll() -> None:
        while not over.is_set():
            replies.append(call(url, path, next(bodies) if bodies else None))
            over.wait(pause_s)

    polling = _POOL.submit(poll)
    try:
        yield replies
    finally:
        over.set()
        polling.result()


def task(number: int, picture: str, note: str = "") -> dict[str, Any]:
    return {"id": number, "data": {"image": picture, "note": note}}


def predict_body(project: int, tasks: Sequence[dict[str, Any]], config: str = CONFIG) -> bytes:
    document = {"tasks": tasks, "project": f"{project}.1700000000", "label_config": config, "params": {}}
    return json.dumps(document).encode()


@contextmanager
def silent_hosts(num: int) -> Iterator[list[str]]:
    """The addresses of `num` hosts that take a connection and never say a word."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((f"127.0.1.{n % 250 + 1}", 0))) for n in range(num)]
        yield ["http://{}:{}".format(*listening.getsockname()) for listening in sockets]


def metric(url: str, sample: str) -> float:
    """One sample of /metrics by its full name, 0 if it is not there."""
    found = (line for line in call(url, "/metrics").body.decode().splitlines() if line.startswith(sample + " "))
    return float(next(found, "0").rpartition(" ")[2])
