"""An engine process ends with whoever started it, and a script that starts one is not run by it."""

import asyncio
import multiprocessing
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from backend.engine.client import EngineClient
from backend.engine.options import EngineOptions
from backend.errors import EngineDead
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
        before = set(multiprocessing.active_children())
        await client.start()
        await eventually(lambda: client.status.stage == "reading", "the beginning of loading")
        closing = asyncio.create_task(client.close())
        await eventually(lambda: client.status.state == "stopped", "the beginning of the end")
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await eventually(lambda: not set(multiprocessing.active_children()) - before, "the end of the process")

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
    """A spawned process would run it again, up to the point where its server finds its own address in use."""
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
