"""A job of 50 tasks that is killed at each of its fault points, or at some of every kind, and then runs once more.

Run as `python -m tests.backend.store.crash_child FOLDER MOST`: prints one JSON line for the run that nobody kills, and
one for each that is killed, with the run after it. `killed` is what kill -9 does: the process ends, nothing is closed,
nothing is flushed. A kind is the name of a point and the store's call it is in; of each kind, MOST points are chosen.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import cast

from backend.store import NewWork, RecipeRecord, Store, StoredAnswer, WorkState, faults
from tests.backend.store.given import QUICK

KILLED = 137
NUM_TASKS = 50
NUM_PICTURES = 40  # ten tasks show a picture that another one shows
BAD = 7
"""Tasks whose number ends in it cannot be predicted."""


class Points:
    """The fault points of one run, each with its kind; the process is killed at number `kill_at`, counted from 0."""

    def __init__(self, kill_at: int = -1) -> None:
        self.kinds: list[str] = []
        self.call = "open"
        self._kill_at = kill_at

    def hit(self, name: str) -> None:
        if len(self.kinds) == self._kill_at:
            os._exit(KILLED)
        self.kinds.append(f"{name} of {self.call}")

    def seen(self, store: Store) -> Store:
        """The same store; its calls are noted."""
        return cast(Store, _Noted(store, self))


class _Noted:
    def __init__(self, store: Store, points: Points) -> None:
        self._store = store
        self._points = points

    def __getattr__(self, name: str) -> object:
        self._points.call = name
        return getattr(self._store, name)


def chosen(kinds: list[str], most: int) -> list[int]:
    """Up to `most` points of each kind, spread over the run, of every next kind a little later."""
    by_kind: dict[str, list[int]] = {}
    for number, kind in enumerate(kinds):
        by_kind.setdefault(kind, []).append(number)
    found: set[int] = set()
    for turn, numbers in enumerate(by_kind.values()):
        step = max(1, len(numbers) // most)
        found.update(numbers[turn % step :: step][:most])
    return sorted(found)


class Ledger:
    """Lines in a file, each written by one call: it outlives the process as Label Studio or a log would."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, *lines: object) -> None:
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(handle, "".join(f"{line}\n" for line in lines).encode())
        os.close(handle)

    def lines(self) -> list[str]:
        return self._path.read_text().splitlines() if self._path.exists() else []


def job(folder: Path, start: float, points: Points) -> None:
    """Accept, compute, answer by the deadline with what is done, compute the rest, deliver it."""
    label_studio, requests = Ledger(folder / "label_studio"), Ledger(folder / "requests")
    with Store.open(folder / "prelabel.db", start, QUICK) as opened:
        store = points.seen(opened)
        store.recover(start)
        if not requests.lines():
            store.save_recipe(RecipeRecord("r", "a", "<View/>", "{}"), start)
            items = [NewWork("ab"[i % 2], i, "v", "r", f"https://pictures/{i}") for i in range(NUM_TASKS)]
            rows = store.accept(items, interactive=False, reply_until=start + 45, now=start)
            requests.add("accepted")
            ids = [row.id for row in rows]
            compute(store, folder, start + 1, max_rows=20)
            in_time = store.returned(ids, start + 100, start + 45, chosen_at=start)
            faults.hit("before_reply")
            label_studio.add(*(row.task_id for row in rows if row.id in in_time))
            faults.hit("after_reply")
            store.reply_ended(ids, start + 46)
        compute(store, folder, start + 50, max_rows=NUM_TASKS)
        deliver(store, label_studio, start + 200)


def compute(store: Store, folder: Path, now: float, max_rows: int) -> None:
    log = Ledger(folder / "computed")
    while max_rows > 0 and (rows := store.claim(min(8, max_rows), now)):
        max_rows -= len(rows)
        calls: list[Callable[[], object]] = []
        begun: list[str] = []
        for row in rows:
            picture = f"{row.task_id % NUM_PICTURES}:v"
            if row.task_id % 10 == BAD:
                calls.append(lambda row=row: store.fail(row.id, "image_corrupt", "", now))
                continue
            stored = store.answer(picture)
            if stored is None and picture not in begun:
                log.add(f"began {picture}")
                begun.append(picture)
            answer = stored or StoredAnswer(picture, "{}")
            calls.append(lambda row=row, answer=answer: store.finish(row.id, answer, 0.5, False, now))
        assert not any(ended.error for ended in store.together(calls[1:]))  # some share a transaction,
        calls[0]()  # one has its own
        log.add(*(f"stored {picture}" for picture in begun))


def deliver(store: Store, label_studio: Ledger, now: float) -> None:
    first = True
    while projects := store.projects_due(now):
        for project in projects:
            rows = store.take_due(project, 10, now + 60, now)
            there = set(label_studio.lines())
            missing = [r for r in rows if r.state is WorkState.DONE or str(r.task_id) not in there]
            faults.hit("before_push")
            label_studio.add(*(row.task_id for row in missing))
            faults.hit("after_push_before_mark")
            if first:  # the reply of the first push is lost
                store.push_failed([row.id for row in rows], now, "no_reply", now)
                first = False
            else:
                store.delivered([row.id for row in rows], now)


def in_child(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def outcome(folder: Path) -> dict[str, object]:
    with Store.open(folder / "prelabel.db", 9e3, QUICK) as store:
        summaries = store.summary()
        set_aside = store.set_aside is not None
    computed = Ledger(folder / "computed").lines()
    stored = {line.split()[1] for line in computed if line.startswith("stored")}
    again = [
        line
        for i, line in enumerate(computed)
        if line.startswith("began") and f"stored {line.split()[1]}" in computed[:i]
    ]
    return {
        "states": {s.project: {state.value: num for state, num in sorted(s.states.items())} for s in summaries},
        "delivered": sorted(map(int, Ledger(folder / "label_studio").lines())),
        "most_begun": max(Counter(line for line in computed if line.startswith("began")).values()),
        "stored": len(stored),
        "computed_again": again,
        "set_aside": set_aside,
    }


def main(root: Path, most: int) -> None:
    def begin(number: int, start: float, kill_at: int) -> int:
        folder = root / str(number)

        def work() -> None:
            points = Points(kill_at)
            faults.install(points.hit)
            job(folder, start, points)
            (folder / "kinds").write_text("\n".join(points.kinds))

        folder.mkdir(exist_ok=True)
        return in_child(work)

    code = begin(-1, 1_000.0, -1)
    kinds = (root / "-1" / "kinds").read_text().splitlines()
    numbers = chosen(kinds, most)
    print(json.dumps({"code": code, "kinds": kinds, **outcome(root / "-1")}))
    for number in numbers:
        codes = [begin(number, 1_000.0, number), begin(number, 5_000.0, -1)]
        print(json.dumps({"killed_at": kinds[number], "codes": codes, **outcome(root / str(number))}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
