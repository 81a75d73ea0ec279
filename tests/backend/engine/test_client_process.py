"""An engine process ends with whoever started it, and a script that starts one is not run by it."""

import asyncio
import errno
import os
import pickle
import subprocess
import sys
import threading
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from backend.engine.client import EngineClient
from backend.engine.options import EngineOptions
from backend.errors import EngineDead
from tests import left_behind
from tests.backend.engine import fake_process
from tests.backend.engine.client_rig import LIMITS, request, run, running
from tests.limits import RUN_S, TEST_S, WAIT_S, eventually


def test_the_interpreter_ends_while_an_engine_that_nobody_closed_waits() -> None:
    code = (
        "import asyncio\n"
        "from backend.engine.client import EngineClient\n"
        "from backend.engine.options import EngineOptions\n"
        "from tests.backend.engine import fake_process\n"
        "async def main():\n"
        "    client = EngineClient(EngineOptions(model='fake'), entry=fake_process.main)\n"
        "    await client.start()\n"
        f"    await client.wait_ready({WAIT_S})\n"
        "    print('started')\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=TEST_S, check=False)
    assert done.stdout.strip() == "started", done.stderr


class _NoRoom:
    """An entry that cannot be handed to a process while `error` is set, as where the system starts none."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def __call__(self, connection: Connection, options: EngineOptions) -> None:
        raise AssertionError("the process is handed fake_process.main in its place")

    def __reduce__(self) -> tuple[object, ...]:
        if self.error is not None:
            raise self.error
        return pickle.loads, (pickle.dumps(fake_process.main),)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, "Too many open files"),
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("can't start new thread"),
    ],
    ids=str,
)
def test_where_no_process_can_be_started_for_a_moment_it_is_told_and_tried_again(
    error: Exception, tmp_path: Path
) -> None:
    async def test() -> None:
        entry, options = _NoRoom(), EngineOptions(model="fake", quantised_dir=tmp_path / "died")
        client = EngineClient(options, replace(LIMITS, max_restarts=99), entry)
        await client.start()
        try:
            await client.wait_ready(WAIT_S)
            entry.error = error
            dying = asyncio.create_task(client.generate(request("die once")))
            await eventually(lambda: [why.code for why in client.status.why] == ["engine_not_started"])
            assert client.status.state == "restarting"
            assert str(error) in client.status.message
            entry.error = None
            assert (await dying).pieces == (b"True",)
        finally:
            await client.close()

    run(test)


@pytest.mark.parametrize("name", ["engine-reader", "engine-writer"])
def test_where_no_thread_can_be_started_for_a_moment_it_is_tried_again_and_no_process_is_left(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, left = threading.Thread.start, [1, 2]

    def refused_twice(thread: threading.Thread) -> None:
        if thread.name == name and left:
            left.pop()
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refused_twice)

    async def test() -> None:
        async with running(limits=replace(LIMITS, max_restarts=3)) as client:
            await client.wait_ready(WAIT_S)
            assert (left, client.status.num_restarts) == ([], 0)

    run(test)


def test_where_no_process_can_ever_be_started_that_is_what_the_end_says() -> None:
    async def test() -> None:
        entry = _NoRoom()
        entry.error = FileNotFoundError(errno.ENOENT, "No such file or directory", "/moved/bin/python")
        client = EngineClient(EngineOptions(model="fake"), LIMITS, entry)
        await client.start()
        with pytest.raises(EngineDead, match=r"cannot be started .*'/moved/bin/python'"):
            await client.wait_ready(WAIT_S)
        await client.close()
        assert client.status.state == "stopped"

    run(test)


def test_closing_ends_the_process_and_fails_what_still_waits() -> None:
    async def test() -> None:
        async with running() as client:
            await client.wait_ready(WAIT_S)
            waiting = asyncio.create_task(client.generate(request("hang")))
            await eventually(lambda: client.status.num_running, "the request on the device")
            await client.close()
            with pytest.raises(EngineDead):
                await waiting
            assert client.status.state == "stopped"

    run(test)


def test_a_close_that_is_given_up_leaves_no_process_behind() -> None:
    async def test() -> None:
        client = EngineClient(EngineOptions(model="slow"), replace(LIMITS, close_s=10 * TEST_S), fake_process.main)
        before = left_behind.children()
        await client.start()
        await eventually(lambda: client.status.stage == "reading", "the beginning of loading")
        closing = asyncio.create_task(client.close())
        await eventually(lambda: client.status.state == "stopped", "the beginning of the end")
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await eventually(lambda: not left_behind.children() - before, "the end of the process")

    run(test)


UNGUARDED = """
import asyncio, __main__
from backend.engine.client import EngineClient
from backend.engine.options import EngineLimits, EngineOptions
from tests.backend.engine import fake_process

print("the script runs", flush=True)
marker = object()

async def serve():
    client = EngineClient(EngineOptions(model="fake"), EngineLimits(), fake_process.main)
    await client.start()
    ready = await client.wait_ready({wait_s})
    print("ready:", ready.model_name, flush=True)
    await client.close()

asyncio.run(serve())
print("it is itself again:", __main__.marker is marker, flush=True)
"""


@pytest.mark.parametrize("how", ["as a file", "as a module"])
def test_a_script_without_a_guard_runs_once_and_has_its_engine(tmp_path: Path, how: str) -> None:
    """A process that ran it again would do so up to the point where its server finds its own address in use."""
    (tmp_path / "unguarded.py").write_text(UNGUARDED.format(wait_s=WAIT_S))
    root = Path(__file__).parents[3]
    command = [sys.executable, *(["-m", "unguarded"] if how == "as a module" else [str(tmp_path / "unguarded.py")])]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{tmp_path}"},
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.stdout.splitlines() == ["the script runs", "ready: fake", "it is itself again: True"], done.stderr
