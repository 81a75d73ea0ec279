"""What delivery needs of the store: the finished work, and where to say what became of it.

All methods block and are called from several threads, for one project from one thread at a time. They may raise
backend.errors.PrelabelError, having changed nothing. `backend.store` has all of it; tests have one in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

WorkId = int


class Work(Protocol):
    """One task to be answered once. `project` is as Label Studio sends it, `<id>.<created>`.

    `state` is "done", or "returned" if Label Studio may have it: from a reply, or from a push that ended in the dark.
    `told`: a reply or a push had this task and version at any time before, whatever became of the row since.
    """

    @property
    def id(self) -> WorkId: ...
    @property
    def project(self) -> str: ...
    @property
    def task_id(self) -> int | str: ...
    @property
    def model_version(self) -> str: ...
    @property
    def recipe(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def answer_key(self) -> str | None: ...
    @property
    def push_attempts(self) -> int: ...
    @property
    def told(self) -> bool: ...


class StoredAnswer(Protocol):
    @property
    def content(self) -> str: ...


class RecipeRecord(Protocol):
    @property
    def label_config(self) -> str: ...


class Store(Protocol):
    def projects_due(self, now: float) -> Sequence[str]: ...
    def take_due(self, project: str, limit: int, hold_until: float, now: float) -> Sequence[Work]:
        """Oldest first. Until `hold_until`, or until they are ended by a call below, no reply may contain them.

        What is not ended by then is "returned".
        """
        ...

    def answers(self, keys: Collection[str]) -> Mapping[str, StoredAnswer]: ...
    def recipe(self, fingerprint: str) -> RecipeRecord | None: ...
    def delivered(self, work_ids: Sequence[WorkId], now: float) -> None: ...
    def push_failed(
        self, work_ids: Sequence[WorkId], next_try_at: float, reason: str, now: float, *, sent: bool = True
    ) -> None:
        """`sent=False`: nothing can have arrived."""
        ...

    def drop(self, work_ids: Sequence[WorkId], reason: str, message: str, now: float) -> None: ...


MakePrediction = Callable[[Work, str], dict[str, Any]]
"""The work and its answer's content to Label Studio's `{"model_version", "score", "result"}`."""
