"""The durable store: which tasks are to be predicted, the answers, and what Label Studio still has to be told.

Kill -9 at any point loses nothing that was accepted and nothing that was computed: each call is one transaction, except
the few that say "in steps". Thread-safe and blocking; an event loop calls it in a thread. `now` is seconds since the
epoch. Knows no HTTP and no model. Every call may raise StoreBusy, StoreFull or StoreError, having changed nothing.
One serving process a file: `recover` takes over whatever runs. Others may open it beside to look or to add work.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

from backend.reasons import Reason
from backend.store import accepting, audit, gone, outbox, overview, people, pruning, work
from backend.store import answers as answer_rows
from backend.store import versions as present_versions
from backend.store.database import DEFAULTS, Database, Options
from backend.store.opening import open_beside, open_database, open_in_memory
from backend.store.types import UNFINISHED, NewWork, RecipeRecord, StoredAnswer, Work, WorkState

P = ParamSpec("P")
T = TypeVar("T")

MAX_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Ended:
    """How a call ended: with a result, or with what it raised."""

    result: object = None
    error: Exception | None = None


def _read(step: Callable[Concatenate[sqlite3.Connection, P], T]) -> Callable[Concatenate[Store, P], T]:
    """The call that does `step` on one snapshot."""

    @functools.wraps(step)
    def call(self: Store, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._database.read() as connection:
            return step(connection, *args, **kwargs)

    return call


def _write(step: Callable[Concatenate[sqlite3.Connection, P], T]) -> Callable[Concatenate[Store, P], T]:
    """The call that does `step` as one transaction."""

    @functools.wraps(step)
    def call(self: Store, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._database.write() as connection:
            return step(connection, *args, **kwargs)

    return call


class Store:
    """`set_aside` is where a damaged file was moved to when this one was opened, None if there was none. `lasts`: it is
    on the disk; in memory each request has rows of its own, and none of them moves to another version.

    A call that is one step is made of the function of that name, which says what it does."""

    def __init__(self, database: Database, set_aside: Path | None, *, lasts: bool = True) -> None:
        self._database = database
        self._lasts = lasts
        self.set_aside = set_aside

    @classmethod
    def open(cls, path: Path, now: float, options: Options = DEFAULTS) -> Self:
        """Open or make the file at `path`, bring its schema up to date. Raises StoreUnusable with the next step."""
        return cls(*open_database(path, now, options))

    @classmethod
    def beside(cls, path: Path, now: float) -> Self:
        """Open it beside a process that may serve it, or make it: a file that is there is never moved, and migrated
        only where no process serves it."""
        return cls(open_beside(path, now), None)

    @classmethod
    def in_memory(cls) -> Self:
        """An empty one that lasts as long as its process. End each request of it with `abandon`, or it grows."""
        return cls(open_in_memory(), None, lasts=False)

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def together(self, calls: Sequence[Callable[[], object]]) -> list[Ended]:
        """Run `calls` of this store, one after the other; what they write is one transaction. How each ended, in order.

        A call that raises has changed nothing and costs the others nothing. Where the transaction as a whole is lost,
        all those that wrote end with its error.
        """
        ended: list[Ended] = []
        wrote: list[bool] = []
        try:
            with self._database.together() as num_writes:
                for call in calls:
                    before = num_writes()
                    try:
                        ended.append(Ended(call()))
                    except Exception as error:
                        ended.append(Ended(error=error))
                    wrote.append(num_writes() > before)
        except Exception as error:
            return [Ended(error=error) if was_write else one for one, was_write in zip(ended, wrote, strict=True)]
        return ended

    save_recipe = _write(answer_rows.save_recipe)
    recipe = _read(answer_rows.recipe)

    def set_present(
        self, record: RecipeRecord, model_version: str, now: float, audit_share: float | None = None
    ) -> int | None:
        """Save `record`: from `now` on it is how the pictures of its project are answered. What is not in Label Studio
        yet moves there, in steps, and takes its turn under `model_version`. Returns how many rows moved, None where the
        present version stays.

        Answers that were not delivered are made anew; what failed by its picture stays failed. A row that moved is
        gone: what is under way for it ends in nothing. Where no project is named, nothing moves.
        `audit_share` of its tasks (None: as before) is withheld from now on; with 0, what was withheld is DONE.
        """
        with self._database.write() as connection:
            is_new = present_versions.set_present(connection, record, model_version, now, audit_share)
        num_moved = self.move_older(record.project, now) if is_new else None
        if audit_share == 0:
            self._in_steps(lambda connection: audit.release_unaudited(connection, record.project, now))
        return num_moved

    present = _read(present_versions.present)
    versions = _read(present_versions.versions)
    audit_share = _read(audit.audit_share)
    audited_projects = _read(audit.audited_projects)

    def move_older(self, project: str | None, now: float) -> int:
        """What is not in Label Studio yet moves to the present version of `project`, in steps; None: of all."""
        return self._in_steps(lambda connection: present_versions.move_older(connection, project, now))

    def forget_older(self, project: str) -> int:
        """Label Studio has no predictions of earlier versions any more: forget what it was told, in steps."""
        return self._in_steps(lambda connection: present_versions.forget_older(connection, project))

    # From task to answer

    def accept(
        self,
        items: Sequence[NewWork],
        *,
        interactive: bool,
        reply_until: float,
        now: float,
        audit_share: float = 0.0,
    ) -> list[Work]:
        """Queue `items`, or find what there is of them; one Work an item, in order. Their recipes must be saved.

        What had failed or was cancelled is queued again, and so is what has another picture now, by its address, in
        whatever state it is; everything else keeps its state. Until `reply_until`, or until
        `reply_ended`, none of them is due. Call `reply_ended` once for each accept. What is asked for under a version
        that is no longer the present one is queued and moves there at once: its Work is CANCELLED. `audit_share` is
        that of a project which is new; for others see `set_present`. Raises ValueError.
        """
        asked = {item.project: item.model_version for item in items}
        with self._database.write() as connection:
            found = accepting.accept(
                connection, items, interactive=interactive, reply_until=reply_until, now=now, audit_share=audit_share
            )
            late = [
                p for p, version in asked.items() if self._lasts and present_versions.is_earlier(connection, p, version)
            ]
        for project in late:
            self.move_older(project, now)
        return [
            replace(work, state=WorkState.CANCELLED) if work.project in late and work.state in UNFINISHED else work
            for work in found
        ]

    claim = _write(work.claim)
    finish = _write(work.finish)
    fail = _write(work.fail)
    requeue = _write(work.requeue)
    give_back = _write(work.give_back)

    def recover(self, now: float, max_attempts: int = MAX_ATTEMPTS) -> int:
        """At the start of the serving process: what was running is queued, or FAILED as "crashed". Returns how many.

        What was being pushed is RETURNED, to be looked up; no request is open any more.
        """
        with self._database.write() as connection:
            num_rows = work.recover(connection, now, max_attempts)
        self.move_older(None, now)  # what a kill left half way
        return num_rows

    def answer(self, key: str) -> StoredAnswer | None:
        return self.answers([key]).get(key)

    answers = _read(answer_rows.answers)

    def answer_keys(self, suffix: str) -> Iterator[str]:
        """The keys that end with `suffix`, one by one: read to the end or close it, it is a transaction."""
        with self._database.read() as connection:
            yield from answer_rows.keys(connection, suffix)

    save_answers = _write(answer_rows.save_answers)

    # From answer to Label Studio

    returned = _write(outbox.returned)
    is_missing = _write(outbox.is_missing)
    reply_ended = _write(outbox.reply_ended)

    def abandon(self, work_ids: Sequence[int], now: float) -> None:
        """As `reply_ended`, for a store in memory: nobody can be told later. What is unfinished is CANCELLED, and all
        that no open request waits for is forgotten, but for the newest row (see `pruning.forget_unasked`)."""
        with self._database.write() as connection:
            work.cancel(connection, work_ids, now)
            outbox.reply_ended(connection, work_ids, now)
            pruning.forget_unasked(connection)

    due = _read(outbox.due)
    projects_due = _read(outbox.projects_due)
    take_due = _write(outbox.take_due)
    delivered = _write(outbox.delivered)
    push_failed = _write(outbox.push_failed)
    drop = _write(outbox.drop)

    # What people did in Label Studio

    reading = _read(people.reading)
    begin_reading = _write(people.begin_reading)
    save_people = _write(people.save_people)
    end_reading = _write(people.end_reading)
    labelled = _read(people.labelled)
    labelled_among = _read(people.labelled_among)
    people_counts = _read(people.people_counts)
    forget_labelled = _write(people.forget_labelled)
    forget_people = _write(people.forget_people)
    people_projects = _read(people.people_projects)
    own_answers = _read(people.own_answers)
    answers_in_order = _read(people.answers_in_order)
    version_recipes = _read(people.version_recipes)

    # What Label Studio does not have any more, or people did

    is_worth_asking = _read(gone.is_worth_asking)
    tasks_at_rest = _read(gone.tasks_at_rest)
    tasks_gone = _write(gone.tasks_gone)
    tasks_done_by_people = _write(gone.tasks_done_by_people)

    def project_gone(self, project: str, reason: Reason, asked_at: float) -> int:
        """As `tasks_gone`, of all tasks of `project`, in steps. What was pruned is not counted any more either."""
        return self._in_steps(lambda connection: gone.project_gone(connection, project, reason, asked_at))

    def project_back(self, project: str, now: float) -> int:
        """It is there after all: its answers are to be delivered, in steps."""
        return self._in_steps(lambda connection: gone.project_back(connection, project, now))

    # What the blind audit keeps back

    audit_key = _read(audit.audit_key)
    withheld_tasks = _read(audit.withheld_tasks)
    audited_tasks = _read(audit.audited_tasks)

    # What a person does

    def cancel_project(self, project: str, now: float) -> int:
        """Cancel what is not computed yet, in steps; answers that are there are still delivered."""
        with self._database.write() as connection:
            num_running = work.cancel_running(connection, project, now)
        return num_running + self._in_steps(lambda connection: work.cancel_queued(connection, project, now))

    def retry_failed(self, project: str, now: float) -> int:
        """Queue again all that failed, in steps. What failed in its delivery keeps its answer and is DONE again."""
        return self._in_steps(lambda connection: work.retry_failed(connection, project, now))

    summary = _read(overview.summary)
    failures = _read(overview.failures)
    rate = _read(overview.rate)

    def prune(self, now: float, keep_s: float) -> int:
        """Forget, in steps, rows that are over and answers nobody needs, older than `keep_s`. Returns rows removed.

        Over is also what a reply held and nobody looked up since. It does not count as delivered.
        """
        before = now - keep_s
        num_rows = self._in_steps(lambda connection: pruning.prune_work(connection, before, now))
        self._in_steps(lambda connection: pruning.prune_answers(connection, before))
        with self._database.write() as connection:
            pruning.prune_rest(connection, before)
        self._database.give_back_pages()
        return num_rows

    def _in_steps(self, step: Callable[[sqlite3.Connection], int]) -> int:
        """Repeat a step, each in a transaction of its own so that other writes go between, until it does nothing."""
        total = 0
        while True:
            with self._database.write() as connection:
                num_rows = step(connection)
            if not num_rows:
                return total
            total += num_rows
