"""Small inputs for the tests of the store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from backend.store import NewWork, Options, RecipeRecord, Store, StoredAnswer, Work, WorkState
from tests.limits import WAIT_S

RECIPE = RecipeRecord("recipe-1", "12.17", "<View/>", "{}")
ANSWER = StoredAnswer("picture-1:v1", '{"result": []}')
QUICK = Options(busy_timeout_s=WAIT_S, synchronous="OFF")
"""No test cuts the power, so none waits for the disk."""


def task(task_id: int, project: str = "12.17", version: str = "v1", url: str | None = "https://pictures/1") -> NewWork:
    return NewWork(project, task_id, version, RECIPE.fingerprint, url)


def tasks(num: int, project: str = "12.17", first: int = 1) -> list[NewWork]:
    return [task(task_id, project) for task_id in range(first, first + num)]


def opened(path: Path, now: float = 0.0, options: Options = QUICK) -> Store:
    store = Store.open(path, now, options)
    store.save_recipe(RECIPE, now)
    return store


def accepted(
    store: Store, items: Sequence[NewWork], now: float = 1.0, *, interactive: bool = False, reply_until: float = 0.0
) -> list[Work]:
    return store.accept(items, interactive=interactive, reply_until=reply_until, now=now)


def done(store: Store, num: int = 1, *, now: float = 1.0, reply_until: float = 0.0, first: int = 1) -> list[Work]:
    """`num` rows that are DONE."""
    rows = accepted(store, tasks(num, first=first), now, reply_until=reply_until)
    return [store.finish(row.id, ANSWER, 0.9, False, now) for row in rows]


def states(store: Store) -> dict[WorkState, int]:
    """How many rows of the only project are in which state."""
    [summary] = store.summary()
    return dict(summary.states)
