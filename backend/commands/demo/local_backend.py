"""`prelabel serve` as a process of its own on this machine, for the demo and the end-to-end tests.

It listens on loopback only, writes into the folder it is given, and takes no PRELABEL_* setting from the environment
it is started in. Raises ProcessFailed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from backend.commands.demo.background_process import BackgroundProcess, free_port
from backend.environment import OURS

LOAD_S = 600.0  # ends only what will never answer; a model that cannot be loaded says so


@dataclass(frozen=True, slots=True)
class LocalBackend:
    """A backend that has been started. `wait_until_ready` returns once its model is loaded."""

    url: str
    process: BackgroundProcess
    data_dir: Path
    auth: tuple[str, str] | None = None

    def wait_until_answers(self) -> None:
        self._wait(lambda reply: reply.status_code == 200)

    def wait_until_ready(self) -> None:
        """Raises ProcessFailed, at once when the model cannot be loaded."""

        def accept(reply: httpx.Response) -> bool:
            state, message = model_state(reply)
            if state == "failed":
                raise self.process.failed(f"could not load its model: {message}")
            return state == "ready"

        self._wait(accept)

    def _wait(self, accept: Callable[[httpx.Response], bool]) -> None:
        self.process.wait_until_answers(f"{self.url}/health", LOAD_S, accept, self.auth)


def model_state(reply: httpx.Response) -> tuple[str, str]:
    """The state of the model and its message, as /health tells them; empty where it is another program's reply."""
    try:
        model = reply.json()["model"]
        return str(model["state"]), str(model.get("message", ""))
    except (ValueError, KeyError, TypeError):
        return "", ""


@contextmanager
def running_backend(folder: Path, settings: Mapping[str, str], port: int | None = None) -> Iterator[LocalBackend]:
    """Start the backend with these environment variables, on a free port if none is given, yield at once, and end it
    afterwards."""
    port, data_dir = port or free_port(), folder / "prelabel"
    env = {name: value for name, value in os.environ.items() if not name.startswith(OURS)} | {
        "PRELABEL_MODEL": "garments",
        "PRELABEL_PORT": str(port),
        "PRELABEL_DATA_DIR": str(data_dir),
        # The small model gains nothing from more threads, and threads that wait for each other beside a busy
        # Label Studio have been seen to turn a second into a minute.
        "OMP_NUM_THREADS": "1",
        **settings,
    }
    command = [sys.executable, "-c", "from backend.cli import main; main()", "serve"]
    with BackgroundProcess("The backend", command, env, folder / "prelabel.log") as process:
        password = settings.get("BASIC_AUTH_PASS")
        auth = (settings.get("BASIC_AUTH_USER", "prelabel"), password) if password else None
        yield LocalBackend(f"http://127.0.0.1:{port}", process, data_dir, auth)
