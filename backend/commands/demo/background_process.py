"""Run one server process in the background: start it, wait until it answers HTTP, end it with everything it started.

Output goes to a log file, whose path is part of every error. The process gets exactly the environment it is given and
its own process group, so that Ctrl-C in a terminal reaches only us and we end it in order. Should this process be
killed outright, Linux ends the child too. Raises ProcessFailed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from backend.errors import PrelabelError

STOP_S = 25.0  # `prelabel serve` allows itself 20 s to end
KILL_S = 60.0  # after SIGKILL; only a busy machine takes more than a moment
POLL_S = 0.2
_LOG_TAIL_LINES = 15
_PR_SET_PDEATHSIG = 1
_PORTS = (20_000, 32_000)


class ProcessFailed(PrelabelError):
    """A process ended, or did not answer in time. The message holds the end of its log and where the rest is."""


class BackgroundProcess:
    """Use as a context manager; leaving it ends the process group."""

    def __init__(
        self, name: str, command: Sequence[str], env: Mapping[str, str], log_path: Path, stop_s: float = STOP_S
    ) -> None:
        self.name = name
        self.stop_s = stop_s
        self.log_path = log_path
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with log_path.open("ab") as log:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - a fixed command, no shell
                    list(command),
                    env=dict(env),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=_die_with_parent(os.getpid()) if sys.platform == "linux" else None,
                )
            except OSError as error:
                raise ProcessFailed(f"{name} cannot be started: {error.strerror} ({command[0]}).") from None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait_until_answers(
        self,
        url: str,
        timeout_s: float,
        accept: Callable[[httpx.Response], bool],
        auth: tuple[str, str] | None = None,
    ) -> None:
        """Return once GET `url` gives a reply that `accept` takes.

        Raises ProcessFailed when the process ends first, or after `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        with httpx.Client(timeout=5.0, trust_env=False, auth=auth) as http:
            while time.monotonic() < deadline:
                if not self.running:
                    raise self.failed(f"ended with exit code {self._process.returncode}")
                with contextlib.suppress(httpx.HTTPError):
                    if accept(http.get(url)):
                        return
                time.sleep(POLL_S)
        raise self.failed(f"did not answer within {timeout_s:.0f} s")

    def wait_until_ended(self, timeout_s: float) -> None:
        """Raises ProcessFailed when it has not ended after `timeout_s`, or with another exit code than 0."""
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise self.failed(f"did not end within {timeout_s:.0f} s") from None
        if code:
            raise self.failed(f"ended with exit code {code}")

    def failed(self, what: str) -> ProcessFailed:
        """The error for `what`, with the end of the log."""
        return ProcessFailed(f"{self.name} {what}.\n{log_tail(self.log_path)}\nIts log: {self.log_path}")

    def stop(self) -> None:
        """Ask the process to end, then end whatever is left of its group. Safe to call twice."""
        with contextlib.suppress(ProcessLookupError):
            if self.running:
                self._process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(self.stop_s)
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(KILL_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nothing listens on right now.

    From below those that the system gives to whoever asks for any: else another program could be given it before ours
    has started, and answer in its place.
    """
    while True:
        port = random.randrange(*_PORTS)  # noqa: S311 - no secret
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def log_tail(path: Path) -> str:
    """The last lines of a log, indented; a note if there are none."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_TAIL_LINES:]
    except OSError:
        lines = []
    return "\n".join(f"    {line}" for line in lines) or "    (its log is empty)"


def _die_with_parent(parent_pid: int) -> Callable[[], None]:
    """What the child runs before exec: ask the kernel for SIGTERM when its parent is gone."""
    libc = ctypes.CDLL(None, use_errno=True)  # loaded here: between fork and exec only simple calls are safe

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent_pid:  # the parent ended before we asked
            os._exit(1)

    return ask
