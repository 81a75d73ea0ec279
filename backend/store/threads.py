"""Run a blocking call in a daemon thread: unlike an executor's, it cannot keep the process from ending.

A thread stays for later calls, so there are as many as calls were under way at once: to start one costs the loop as
much as a short call does.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")

_idle: list[SimpleQueue[Callable[[], None]]] = []
"""Of each thread that has nothing to do, where it waits for its next call. One that hangs is not among them."""
os.register_at_fork(after_in_child=_idle.clear)


async def in_thread(call: Callable[[], T]) -> T:
    """Return or raise what `call` does. Cancelling leaves the call running; what it ends with is then lost."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def settle(result: T | None, error: BaseException | None) -> None:
        if ended.done():
            return
        if error is not None:
            ended.set_exception(error)
        else:
            ended.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result: T | None = None
        error: BaseException | None = None
        try:
            result = context.run(call)
        except BaseException as caught:  # handed to whoever waits
            error = caught
        _idle.append(calls)
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result, error)

    try:
        calls = _idle.pop()
    except IndexError:
        calls = SimpleQueue()
        threading.Thread(target=_serve, args=(calls,), name="blocking-calls", daemon=True).start()
    calls.put(run)
    return await ended


def _serve(calls: SimpleQueue[Callable[[], None]]) -> None:
    while True:
        calls.get()()
