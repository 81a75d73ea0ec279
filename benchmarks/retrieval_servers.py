"""The servers of the retrieval benchmark: how far they are, killed outright, started again where they were.

Label Studio and the backend are real, each a process of its own on loopback. Raises MeasuringFailed when something
that must come does not come in time.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import httpx

from backend.commands.demo.background_process import BackgroundProcess, free_port
from backend.commands.demo.local_backend import running_backend
from backend.commands.demo.local_label_studio import LocalLabelStudio, find_label_studio, running_label_studio
from backend.label_studio.client import LabelStudioClient
from benchmarks.report import wait_until
from tests.end_to_end.site import Site

UNTIL_S = 900.0
Milestone = Literal["accepted", "computed", "stored"]


class MeasuringFailed(Exception):
    """What was waited for did not come."""


@dataclass(frozen=True, slots=True)
class Blow:
    """Kill `server` once so many tasks are accepted by the backend, computed, or stored in Label Studio."""

    server: Literal["backend", "Label Studio"]
    of: Milestone
    num: int


class Server:
    """A server that can be killed outright and started again. `start` returns once it answers."""

    def __init__(self, start: Callable[[], AbstractContextManager[BackgroundProcess]]) -> None:
        self._start = start
        self._running = ExitStack()

    def kill(self) -> None:
        """SIGKILL to the whole process group: nothing gets to say goodbye."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._running.close()

    def start(self) -> None:
        self._process = self._running.enter_context(self._start())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._running.close()


@contextmanager
def running_servers(folder: Path, deadline_s: float) -> Iterator[tuple[Site, str, dict[str, Server]]]:
    """An empty Label Studio, the address of a backend that may ask it, and both servers by name."""
    program, planned, port = find_label_studio(), LocalLabelStudio.planned(folder / "label-studio"), free_port()
    settings = {
        "LABEL_STUDIO_URL": planned.url,
        "LABEL_STUDIO_API_KEY": planned.api_key,
        "PRELABEL_PREDICT_DEADLINE_S": str(deadline_s),
        "PRELABEL_ALLOWED_NETWORKS": "127.0.0.0/8",
    }

    @contextmanager
    def backend() -> Iterator[BackgroundProcess]:
        with running_backend(folder, settings, port) as started:
            started.wait_until_ready()
            yield started.process

    with (
        Server(lambda: running_label_studio(program, planned)) as label_studio,
        LabelStudioClient(planned.url, planned.api_key) as client,
        Server(backend) as prelabel,
    ):
        site = Site(planned, client)
        yield site, f"http://127.0.0.1:{port}", {"Label Studio": label_studio, "backend": prelabel}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one project is, by the backend at `url`; -1 while the server that knows is away."""

    site: Site
    project_id: int
    num_tasks: int
    url: str

    def of(self, what: Milestone) -> int:
        if what == "stored":
            return self._num_stored()
        states = self._states()
        if not states:
            return -1
        return sum(states.values()) if what == "accepted" else sum(states[s] for s in ("done", "returned", "delivered"))

    @property
    def is_over(self) -> bool:
        """Whether the backend has nothing left to do: each task is known to be in Label Studio, or has failed."""
        states = self._states()
        is_whole = sum(states.values()) >= self.num_tasks
        return is_whole and not any(states[state] for state in ("queued", "running", "done", "returned"))

    def _num_stored(self) -> int:
        try:
            params = {"include": "total_predictions_number"}
            reply = self.site.call("GET", f"/api/projects/{self.project_id}", params=params)
        except httpx.HTTPError:
            return -1
        return int(reply.json()["total_predictions_number"])

    def _states(self) -> dict[str, int]:
        try:
            reply = httpx.get(f"{self.url}/status.json", timeout=10, trust_env=False)
            states: dict[str, int] = reply.raise_for_status().json()["totals"]["work"]
        except httpx.HTTPError:
            return {}
        return states


def wait_for(what: str, reached: Callable[[], bool], every_s: float = 0.5) -> None:
    """Raises MeasuringFailed."""
    if not wait_until(reached, UNTIL_S, every_s):
        raise MeasuringFailed(f"{what} did not come within {UNTIL_S:.0f} s")
