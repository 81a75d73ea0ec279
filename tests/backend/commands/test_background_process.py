"""Processes we start: waiting for them, what is said when they fail, and that none outlives us."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from backend.commands.demo.background_process import BackgroundProcess, ProcessFailed, free_port
from tests.limits import WAIT_S, until

SERVER = """
import http.server, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid, flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
PARENT = """
import sys, time
from pathlib import Path
from backend.commands.demo.background_process import BackgroundProcess
child = BackgroundProcess("It", [sys.executable, "-c", "import time; time.sleep(600)"], {}, Path(sys.argv[1]))
print(child.pid, flush=True)
time.sleep(600)
"""


def ok(reply: httpx.Response) -> bool:
    return reply.status_code == 200


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def ended(pid: int) -> bool:
    """Whether the process is gone, or only its exit code is left for its parent to read."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    return True


def wait_ended(pid: int) -> None:
    until(lambda: ended(pid), f"the end of process {pid}")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "it.log"


def test_the_whole_group_ends_with_the_block(log: Path) -> None:
    port = free_port()
    with BackgroundProcess("It", python(SERVER, str(port)), os.environ, log) as process:
        process.wait_until_answers(f"http://127.0.0.1:{port}/", WAIT_S, ok)
        child = int(log.read_text().split()[1])
        assert not ended(child)
    wait_ended(process.pid)
    wait_ended(child)


def test_a_process_that_ignores_the_request_to_end_is_killed(log: Path) -> None:
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    )
    with BackgroundProcess("It", python(stubborn), os.environ, log, stop_s=0.1) as process:
        until(lambda: "up" in log.read_text())
    assert not process.running


def test_a_process_that_ends_is_noticed_at_once_with_the_end_of_its_log(log: Path) -> None:
    code = "print('the port is taken'); raise SystemExit(3)"
    with (
        BackgroundProcess("It", python(code), os.environ, log) as process,
        pytest.raises(ProcessFailed) as caught,
    ):
        process.wait_until_answers("http://127.0.0.1:1/", WAIT_S, ok)
    assert "It ended with exit code 3." in str(caught.value)
    assert "the port is taken" in str(caught.value)
    assert str(log) in str(caught.value)


def test_a_process_that_never_answers_is_given_up(log: Path) -> None:
    with (
        BackgroundProcess("It", python("import time; time.sleep(600)"), os.environ, log) as process,
        pytest.raises(ProcessFailed, match=r"did not answer within 1 s.*\n.*its log is empty"),
    ):
        process.wait_until_answers("http://127.0.0.1:1/", 1, ok)


def test_a_program_that_is_not_there_is_named(log: Path) -> None:
    with pytest.raises(ProcessFailed, match=r"It cannot be started: No such file.*\(/nowhere\)"):
        BackgroundProcess("It", ["/nowhere"], os.environ, log)


def test_a_child_ends_when_its_parent_is_killed(log: Path) -> None:
    parent = subprocess.Popen(python(PARENT, str(log)), stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent, parent.stdout:
        child = int(parent.stdout.readline())
        os.kill(parent.pid, signal.SIGKILL)
    wait_ended(child)
