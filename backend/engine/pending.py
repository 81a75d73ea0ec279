"""The requests that wait for an answer, through the deaths of the engine's process.

What was on the device at a death runs again without neighbours, and fails by name at the last of `max_attempts`; what
was not is submitted anew as it was. Knows no process and no pipe. Used on one event loop. Nothing raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace

from backend.engine.messages import Failed, Finished, GenerateRequest, Submit
from backend.errors import Cancelled, EngineDead, GenerationFailed
from backend.reasons import Reason


@dataclass(slots=True)
class _Pending:
    submit: Submit
    future: asyncio.Future[Finished]
    is_running: bool = False
    num_deaths: int = 0


class PendingRequests:
    def __init__(self) -> None:
        self._pending: dict[int, _Pending] = {}
        self._next_id = 0

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def num_running(self) -> int:
        return sum(pending.is_running for pending in self._pending.values())

    @property
    def has_work(self) -> bool:
        """Whether an answer is owed. One that has come is no work, though who waits for it has not woken up yet."""
        return any(not pending.future.done() for pending in self._pending.values())

    def add(self, request: GenerateRequest) -> tuple[Submit, asyncio.Future[Finished]]:
        self._next_id += 1
        asked = {field.name: getattr(request, field.name) for field in fields(request)}
        pending = _Pending(Submit(**asked, request_id=self._next_id), asyncio.get_running_loop().create_future())
        self._pending[self._next_id] = pending
        return pending.submit, pending.future

    def forget(self, request_id: int) -> None:
        self._pending.pop(request_id, None)

    def submits(self) -> Iterator[Submit]:
        return (pending.submit for pending in self._pending.values())

    def running(self, request_ids: Iterable[int]) -> None:
        for request_id in request_ids:
            if request_id in self._pending:
                self._pending[request_id].is_running = True

    def resolve(self, message: Finished | Failed) -> None:
        pending = self._pending.get(message.request_id)
        if pending is None or pending.future.done():
            return
        if isinstance(message, Finished):
            pending.future.set_result(message)
        elif message.kind == "cancelled":
            pending.future.set_exception(Cancelled(message.message))
        else:
            reason: Reason = "generation_failed" if message.kind == "internal" else message.kind
            pending.future.set_exception(GenerationFailed(f"{message.kind}: {message.message}", reason))

    def note_death(self, max_attempts: int) -> None:
        """Charge it to what was on the device."""
        for pending in self._pending.values():
            if not pending.is_running:
                continue
            pending.is_running = False
            pending.num_deaths += 1
            pending.submit = replace(pending.submit, alone=True)
            if pending.num_deaths >= max_attempts and not pending.future.done():
                error = EngineDead(f"the engine died {pending.num_deaths} times while it worked on this request")
                pending.future.set_exception(error)

    def fail_all(self, error: Exception) -> None:
        for pending in self._pending.values():
            if not pending.future.done():
                pending.future.set_exception(error)
