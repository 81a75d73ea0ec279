"""`prelabel serve` as a process of its own, with a scripted engine process beside it, and what tests ask of both."""

from __future__ import annotations

import os
import re
import resource
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from backend.settings import env_name
from backend.store.serving import FILE_NAME
from tests.backend.serving import predict_body
from tests.limits import WAIT_S, until

PROGRAM = "from tests.backend.served import main; main()"


class Running:
    """A process and the lines it printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        self.lines.extend(iter(self.process.stdout.readline, ""))

    def wait_for(self, words: str) -> str:
        until(lambda: any(words in line for line in self.lines) or self.process.poll() is not None, words)
        assert words in self.output, self.output
        return next(line for line in self.lines if words in line)

    def end(self) -> int:
        code = self.process.wait(WAIT_S)
        self._reader.join()
        return code

    @property
    def output(self) -> str:
        return "".join(self.lines)


@contextmanager
def run_program(code: str, *arguments: str, **env: str) -> Iterator[Running]:
    """Python `code` in a process of its own; killed at the end if it still runs."""
    command = [sys.executable, "-c", code, *arguments]
    chosen = {**os.environ, "PYTHONPATH": os.getcwd(), **env}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=chosen) as process:
        running = Running(process)
        try:
            yield running
        finally:
            if process.poll() is None:
                process.kill()
            running.end()


def address(line: str) -> str:
    found = re.search(r"http://[\d.:]+", line)
    assert found, line
    return found[0]


def descendants(pid: int) -> list[int]:
    """Every process that this one started, theirs too."""
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


class Served(Running):
    """A server that is ready. `steer` is the folder `scripted_process` looks into."""

    def __init__(self, running: Running, data_dir: Path, steer: Path) -> None:
        self.process, self.lines, self._reader = running.process, running.lines, running._reader
        self.data_dir = data_dir
        self.steer = steer
        self.url = address(self.wait_for("Model loaded successfully!"))
        self.port = int(self.url.rpartition(":")[2])
        self.client = httpx.Client(base_url=self.url, trust_env=False, timeout=WAIT_S)

    def predict(self, *tasks: dict[str, Any], **params: Any) -> httpx.Response:
        return self.client.post("/predict", json=predict_body(*tasks, **params))

    def json(self, path: str) -> Any:
        return self.client.get(path).json()

    def is_listening(self) -> bool:
        with suppress(ConnectionError):
            socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S).close()
            return True
        return False

    def num_answered(self) -> int:
        """By the engine, over all processes."""
        answered = self.steer / "answered"
        return answered.stat().st_size if answered.exists() else 0

    def num_running(self) -> int:
        """Requests the engine works on."""
        found = re.search(r"^prelabel_engine_running (\S+)", self.client.get("/metrics").text, re.MULTILINE)
        assert found
        return int(float(found[1]))

    def children(self) -> list[int]:
        """Every process it started, theirs too."""
        return descendants(self.process.pid)

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """No file of this process may grow meanwhile, or be written to at all."""
        _, hard = resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (0, hard))
        try:
            yield
        finally:
            resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (hard, hard))


@contextmanager
def served(folder: Path, max_files: int | None = None, **settings: object) -> Iterator[Served]:
    """`prelabel serve` on `folder`/data, ready. It may open `max_files`. `settings` by field name."""
    data_dir, steer = folder / "data", folder / "steer"
    steer.mkdir(exist_ok=True)
    env = {env_name(name): str(value) for name, value in settings.items()}
    env |= {"PRELABEL_DATA_DIR": str(data_dir), "PRELABEL_PORT": "0"}
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({max_files}, {max_files}));"
    with run_program((limited if max_files else "") + PROGRAM, str(steer), **env) as running:
        server = Served(running, data_dir, steer)
        with server.client:
            yield server


def states(data_dir: Path) -> dict[str, int]:
    """The rows of work by state, as another program reads them."""
    with closing(sqlite3.connect(data_dir / FILE_NAME)) as connection:
        return dict(connection.execute("SELECT state, count(*) FROM work GROUP BY state").fetchall())


def main() -> None:
    """The server's process."""
    from backend.commands import serve
    from backend.engine.client import EngineClient
    from backend.engine.options import EngineLimits, EngineOptions
    from backend.settings import load_settings
    from tests.backend.engine import scripted_process
    from tests.fakes import FakeImages

    options = EngineOptions(model="garments", quantised_dir=Path(sys.argv[1]))
    limits = EngineLimits(restart_backoff_s=0.01)
    engine = EngineClient(options, limits, scripted_process.main)
    sys.exit(serve.serve(load_settings(), lambda settings: engine, lambda settings: FakeImages()))
