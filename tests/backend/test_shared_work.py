"""An error of shared work is freed with whoever heard of it, and so is what the work had in its hands."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Coroutine
from typing import Any

import pytest

from backend.shared_work import SharedWork


class _Large:
    pass


class _Failed(Exception):
    pass


@pytest.mark.parametrize("num_callers", [1, 3])
def test_what_failed_work_held_is_freed_at_once(num_callers: int) -> None:
    """Not when the garbage collector comes by: megabytes of each of hundreds of pictures are few objects to it."""
    held: list[weakref.ref[_Large]] = []

    async def fail() -> None:
        large = _Large()
        held.append(weakref.ref(large))
        await asyncio.sleep(0)
        raise _Failed

    def begin() -> Coroutine[Any, Any, None]:
        return fail()

    async def ask(shared: SharedWork[str, None]) -> None:
        with pytest.raises(_Failed):
            await shared.join("work", begin)

    async def run() -> bool:
        shared: SharedWork[str, None] = SharedWork()
        await asyncio.gather(*(ask(shared) for _ in range(num_callers)))
        await asyncio.sleep(0)
        return held[0]() is None

    gc.disable()
    try:
        assert asyncio.run(run())
        assert len(held) == 1
    finally:
        gc.enable()
