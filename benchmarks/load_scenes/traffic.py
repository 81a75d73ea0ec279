"""Requests as Label Studio sends them, hosts that never answer, and what a process holds of the machine.

Each request has a connection of its own, as Label Studio's have. A request that fails is a Reply with status 0.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

SETTINGS = {"PRELABEL_ALLOWED_NETWORKS": "127.0.0.0/8"}
NOTE = "x" * 1_000
"""What a task carries beside its picture."""


@dataclass(frozen=True, slots=True)
class Reply:
    """`seconds`: from opening the connection to the last byte."""

    status: int
    seconds: float
    body: bytes = b""
    retry_after: str | None = None

    def results(self) -> list[Any]:
        """The items of a reply to /predict; none if it is no such reply."""
        if self.status != 200:
            return []
        results: list[Any] = json.loads(self.body)["results"]
        return results

    def num_predicted(self) -> int:
        return sum(1 for result in self.results() if result)


def call(url: str, path: str, body: bytes | None = None, timeout_s: float = 10.0) -> Reply:
    """GET `path`, or POST `body` to it."""
    started = time.perf_counter()
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=timeout_s)
    try:
        headers = {"Content-Type": "application/json", "Connection": "close"}
        connection.request("GET" if body is None else "POST", path, body, headers)
        reply = connection.getresponse()
        content = reply.read()
    except (OSError, http.client.HTTPException):
        return Reply(0, time.perf_counter() - started)
    finally:
        connection.close()
    return Reply(reply.status, time.perf_counter() - started, content, reply.headers.get("Retry-After"))


def task(number: int, picture: str, note: str = "") -> dict[str, Any]:
    return {"id": number, "data": {"image": picture, "note": note}}


def predict_body(project: int, config: str, tasks: Sequence[dict[str, Any]]) -> bytes:
    document = {"tasks": tasks, "project": f"{project}.1700000000", "label_config": config, "params": {}}
    return json.dumps(document).encode()


def setup_body(project: int, config: str) -> bytes:
    document = {
        "project": f"{project}.1700000000",
        "schema": config,
        "hostname": "http://127.0.0.1",
        "access_token": "",
    }
    return json.dumps(document).encode()


class Background:
    """`work` in a thread of its own; `result` waits for it and raises what it raised."""

    def __init__(self, work: Callable[[], Reply]) -> None:
        self._work = work
        self._reply: Reply | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._reply = self._work()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def result(self) -> Reply:
        self._thread.join()
        if self._reply is None:
            raise RuntimeError("a request ended without a reply; its error is above")
        return self._reply


def predict(url: str, body: bytes, timeout_s: float = 180.0) -> Background:
    """Start a /predict and return at once."""
    return Background(lambda: call(url, "/predict", body, timeout_s))


@contextmanager
def polled(ask: Callable[[], Reply], pause_s: float) -> Iterator[list[Reply]]:
    """`ask` again and again in a thread while the block runs; the replies so far are in the list."""
    replies: list[Reply] = []
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            replies.append(ask())
            over.wait(pause_s)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield replies
    finally:
        over.set()
        thread.join()


@contextmanager
def silent_hosts(num: int) -> Iterator[list[str]]:
    """The addresses of `num` hosts that take a connection and never say a word."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((f"127.0.1.{n % 250 + 1}", 0))) for n in range(num)]
        yield ["http://{}:{}".format(*listening.getsockname()) for listening in sockets]


def metric(url: str, sample: str) -> float:
    """One sample of /metrics by its full name, 0 if it is not there."""
    for line in call(url, "/metrics").body.decode().splitlines():
        if line.startswith(sample + " "):
            return float(line.rpartition(" ")[2])
    return 0.0


def num_waiting(url: str) -> int:
    """Tasks queued or running in the store, as /health tells them."""
    with contextlib.suppress(ValueError, KeyError):
        return int(json.loads(call(url, "/health").body)["work"]["waiting"])
    return -1


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Whether `condition` came true in time."""
    until = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


@dataclass(frozen=True, slots=True)
class Holdings:
    """What one process holds: resident memory, open files (sockets too), threads."""

    rss_bytes: int
    num_files: int
    num_threads: int


def holdings(pid: int) -> Holdings:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    num_files = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return Holdings(int(status["VmRSS"].split()[0]) * 1024, num_files, int(status["Threads"]))


def children(pid: int) -> list[int]:
    """The processes that `pid` started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
