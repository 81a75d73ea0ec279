"""Small inputs for the tests of the store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from backend.store import NewWork, RecipeRecord, Store, StoredAnswer, Work

RECIPE = RecipeRecord("recipe-1", "12.17", "<View/>", "{}")
ANSWER = StoredAnswer("picture-1:v1", '{"result": []}')


def task(task_id: int, project: str = "12.17", version: str = "v1", url: str | None = "https://pictures/1") -> NewWork:
    return NewWork(project, task_id, version, RECIPE.fingerprint, url)


def tasks(num: int, project: str = "12.17", first: int = 1) -> list[NewWork]:
    return [task(task_id, project) for task_id in range(first, first + num)]


def opened(path: Path, now: float = 0.0) -> Store:
    store = Store.open(path, now, busy_timeout_s=0.2)
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


def states(store: Store, items: Sequence[NewWork]) -> list[str]:
    """Read through the file: asking by `accept` would change what it looks at."""
    with store._database.read() as connection:
        found = {
            (project, task_id): state
            for project, task_id, state in connection.execute(
                "SELECT name, task_id, state FROM work w JOIN project p ON p.id = w.project_id"
            )
        }
    return [found[item.project, item.task_id] for item in items]
