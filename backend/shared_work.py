"""Callers that ask for the same thing at the same time share one piece of work. Knows nothing of what that is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Shared(Generic[T]):
    task: asyncio.Task[T]
    num_waiting: int = 0


class SharedWork(Generic[K, T]):
    """Use it from one event loop."""

    def __init__(self) -> None:
        self._under_way: dict[K, _Shared[T]] = {}

    async def join(self, key: K, begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return or raise what `begin()` does, which is called unless it is under way for `key` already. Who is
        cancelled leaves the others to it; with the last of them it is cancelled, too."""
        work = self._under_way.get(key)
        if work is None:
            work = self._under_way[key] = self._begun(key, begin)
        work.num_waiting += 1
        try:
            return await asyncio.shield(work.task)
        finally:
            work.num_waiting -= 1
            if not work.num_waiting and not work.task.done():
                self._forget(key, work)
                work.task.cancel()
            del work  # an error that is raised here knows it, and it knows the error: neither would be freed for long

    def _begun(self, key: K, begin: Callable[[], Coroutine[Any, Any, T]]) -> _Shared[T]:
        work = _Shared(asyncio.create_task(begin()))
        work.task.add_done_callback(lambda _: self._forget(key, work))
        return work

    async def cancel(self) -> None:
        """End all of it: who waits gets CancelledError."""
        tasks = [work.task for work in self._under_way.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self, key: K, work: _Shared[T]) -> None:
        if self._under_way.get(key) is work:
            del self._under_way[key]
