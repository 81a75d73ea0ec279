"""Blocking calls beside an event loop."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading

import pytest

from backend.store.threads import in_thread
from tests.limits import WAIT_S

NAME = contextvars.ContextVar("NAME", default="nobody")


def test_a_thread_is_used_again() -> None:
    async def go() -> set[int]:
        return {await in_thread(threading.get_ident) for _ in range(20)}

    assert len(asyncio.run(go())) == 1


def test_a_call_that_hangs_keeps_nobody_waiting() -> None:
    may_end = threading.Event()

    async def go() -> None:
        hanging = [asyncio.create_task(in_thread(may_end.wait)) for _ in range(5)]
        await asyncio.sleep(0)
        assert await in_thread(lambda: "done") == "done"
        may_end.set()
        assert await asyncio.gather(*hanging) == [True] * 5

    asyncio.run(go())


def test_what_a_call_raises_is_raised_and_the_next_call_is_none_the_worse() -> None:
    async def go() -> None:
        with pytest.raises(ZeroDivisionError):
            await in_thread(lambda: 1 // 0)
        assert await in_thread(lambda: 1) == 1

    asyncio.run(go())


def test_a_call_sees_the_context_of_who_awaits_it() -> None:
    async def go() -> list[str]:
        seen = []
        for name in ("a", "b"):
            NAME.set(name)
            seen.append(await in_thread(NAME.get))
        return seen

    assert asyncio.run(go()) == ["a", "b"]


FORKED = """
import asyncio, os
from backend.store.threads import in_thread

async def pid() -> int:
    return await in_thread(os.getpid)

assert asyncio.run(pid()) == os.getpid()
child = os.fork()
if child == 0:
    os._exit(0 if asyncio.run(pid()) == os.getpid() else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def test_a_forked_process_has_threads_of_its_own() -> None:
    subprocess.run([sys.executable, "-c", FORKED], check=True, timeout=WAIT_S)
