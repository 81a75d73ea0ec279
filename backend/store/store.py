"""The durable store: which tasks are to be predicted, the answers, and what Label Studio still has to be told.

Kill -9 at any point loses nothing that was accepted and nothing that was computed: each call is one transaction, except
the few that say "in steps". Thread-safe and blocking; an event loop calls it in a thread. `now` is seconds since the
epoch. Knows no HTTP and no model. Every call may raise StoreBusy, StoreFull or StoreError, having changed nothing.
One serving process a file: `recover` takes over whatever runs. Others may open it beside to look or to add work.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from backend.reasons import Reason
from backend.store import accepting, answers, outbox, overview, pruning, versions, work
from backend.store.database import DEFAULTS, Database, Options
from backend.store.opening import open_beside, open_database, open_in_memory
from backend.store.types import NewWork, ProjectSummary, RecipeRecord, StoredAnswer, Work

MAX_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Ended:
    """How a call ended: with a result, or with what it raised."""

    result: object = None
    error: Exception | None = None


class Store:
    """`set_aside` is where a damaged file was moved to when this one was opened, None if there was none. `lasts`: it is
    on the disk; in memory each request has rows of its own, and none of them moves to another version."""

    def __init__(self, database: Database, set_aside: Path | None, *, lasts: bool = True) -> None:
        self._database = database
        self._lasts = lasts
        self.set_aside = set_aside

    @classmethod
    def open(cls, path: Path, now: float, options: Options = DEFAULTS) -> Self:
        """Open or make the file at `path`, bring its schema up to date. Raises StoreUnusable with the next step."""
        return cls(*open_database(path, now, options))

    @classmethod
    def beside(cls, path: Path, now: float, options: Options = DEFAULTS) -> Self:
        """Open it beside a process that may serve it, or make it: a file that is there is never moved, and migrated
        only where no process serves it."""
        return cls(open_beside(path, now, options), None)

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

    def save_recipe(self, record: RecipeRecord, now: float) -> None:
        with self._database.write() as connection:
            answers.save_recipe(connection, record, now)

    def recipe(self, fingerprint: str) -> RecipeRecord | None:
        with self._database.read() as connection:
            return answers.recipe(connection, fingerprint)

    def set_present(self, record: RecipeRecord, model_version: str, now: float) -> int:
        """Save `record`: from `now` on it is how the pictures of its project are answered. What is not in Label Studio
        yet moves there, in steps, and takes its turn under `model_version`. Returns how many rows moved.

        Answers that were not delivered are made anew; what failed by its picture stays failed. A row that moved is
        gone: what is under way for it ends in nothing. Where no project is named, nothing moves.
        """
        with self._database.write() as connection:
            is_new = versions.set_present(connection, record, model_version, now)
        return self.move_older(record.project, now) if is_new else 0

    def present(self, project: str) -> tuple[str, RecipeRecord] | None:
        """The present model version of `project` and its recipe; None if it was never asked for."""
        with self._database.read() as connection:
            return versions.present(connection, project)

    def versions(self, project: str) -> set[str]:
        """All model versions under which there is work of `project`, and the present one."""
        with self._database.read() as connection:
            return versions.versions(connection, project)

    def move_older(self, project: str | None, now: float) -> int:
        """What is not in Label Studio yet moves to the present version of `project`, in steps; None: of all."""
        return self._in_steps(lambda connection: versions.move_older(connection, project, now))

    def forget_older(self, project: str) -> int:
        """Label Studio has no predictions of earlier versions any more: forget what it was told, in steps."""
        return self._in_steps(lambda connection: versions.forget_older(connection, project))

    # From task to answer

    def accept(self, items: Sequence[NewWork], *, interactive: bool, reply_until: float, now: float) -> list[Work]:
        """Queue `items`, or find what there is of them; one Work an item, in order. Their recipes must be saved.

        What had failed or was cancelled is queued again, and so is what has another picture now, by its address, in
        whatever state it is; everything else keeps its state. Until `reply_until`, or until
        `reply_ended`, none of them is due. Call `reply_ended` once for each accept. What is asked for under a version
        that is no longer the present one is queued and moves there at once. Raises ValueError.
        """
        asked = {item.project: item.model_version for item in items}
        with self._database.write() as connection:
            found = accepting.accept(connection, items, interactive=interactive, reply_until=reply_until, now=now)
            late = [p for p, version in asked.items() if self._lasts and versions.is_earlier(connection, p, version)]
        for project in late:
            self.move_older(project, now)
        return found

    def claim(self, limit: int, now: float) -> list[Work]:
        """Take up to `limit` rows to work on; `attempts` counts this one already, so that a crash counts."""
        with self._database.write() as connection:
            return work.claim(connection, limit, now)

    def finish(
        self,
        work_id: int,
        answer: StoredAnswer,
        score: float | None,
        needs_review: bool,
        now: float,
        *,
        image_hash: str = "",
    ) -> Work | None:
        """Save the answer and mark the row DONE. A row that is over (cancelled, say) keeps its state.

        `image_hash` is that of the Work which was claimed: if the task has another picture since, the row is QUEUED.
        None: the row was forgotten meanwhile (see `set_present`); the answer is saved nevertheless.
        """
        with self._database.write() as connection:
            return work.finish(connection, work_id, answer, score, needs_review, now, image_hash)

    def fail(self, work_id: int, reason: Reason, message: str, now: float, *, image_hash: str = "") -> Work | None:
        """Mark the row FAILED. `image_hash` and what is returned are as for `finish`."""
        with self._database.write() as connection:
            return work.fail(connection, work_id, reason, message, now, image_hash)

    def requeue(self, work_id: int, now: float) -> Work | None:
        """Put a running row back, through no fault of it: the attempt is taken back. None: the row was forgotten."""
        with self._database.write() as connection:
            return work.requeue(connection, work_id, now)

    def give_back(self, work_ids: Sequence[int], now: float) -> None:
        """Put running rows back at a shutdown, all in one transaction: there is little time. No attempt is counted.

        Rows that were forgotten meanwhile are left out.
        """
        with self._database.write() as connection:
            for work_id in work_ids:
                work.requeue(connection, work_id, now)

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

    def answers(self, keys: Iterable[str]) -> dict[str, StoredAnswer]:
        with self._database.read() as connection:
            return answers.answers(connection, keys)

    def answer_keys(self, suffix: str) -> Iterator[str]:
        """The keys that end with `suffix`, one by one: read to the end or close it, it is a transaction."""
        with self._database.read() as connection:
            yield from answers.keys(connection, suffix)

    def save_answers(self, items: Iterable[StoredAnswer], now: float) -> None:
        """Keep answers that belong to no task; those whose key is there already are left as they are."""
        with self._database.write() as connection:
            for item in items:
                answers.save_answer(connection, item, now)

    # From answer to Label Studio

    def returned(
        self,
        work_ids: Sequence[int],
        check_at: float,
        now: float,
        *,
        chosen_at: float | None = None,
        told_at: float | None = None,
    ) -> list[int]:
        """Call it before a reply is sent. Returns the ids whose predictions may go out in it; they are RETURNED now.

        The reply has to give `[]` for the others: they are being pushed, or Label Studio was told since `chosen_at`
        (when it chose the tasks of this request). `told_at`: when it will have stored this reply. Both are `now` by
        default. At `check_at` those in the reply are due, to be looked up.
        """
        with self._database.write() as connection:
            at = now if told_at is None else told_at
            return outbox.returned(connection, work_ids, check_at, now, chosen_at, at)

    def is_missing(self, work_ids: Sequence[int], now: float, *, chosen_at: float) -> None:
        """Label Studio lacked them when it chose the tasks of a request (`chosen_at`), whose reply has no room for
        them: what it was told before and has lost is due now, to be looked up. People delete predictions."""
        with self._database.write() as connection:
            outbox.is_missing(connection, work_ids, now, chosen_at)

    def reply_ended(self, work_ids: Sequence[int], now: float) -> None:
        """The request that accepted `work_ids` is over, however it ended; what it did not return is due at once."""
        with self._database.write() as connection:
            outbox.reply_ended(connection, work_ids, now)

    def abandon(self, work_ids: Sequence[int], now: float) -> None:
        """As `reply_ended`, for a store in memory: nobody can be told later. What is unfinished is CANCELLED, and all
        that no open request waits for is forgotten, but for the newest row (see `pruning.forget_unasked`)."""
        with self._database.write() as connection:
            work.cancel(connection, work_ids, now)
            outbox.reply_ended(connection, work_ids, now)
            pruning.forget_unasked(connection)

    def due(self, project: str, limit: int, now: float) -> list[Work]:
        """What could be delivered now, oldest first; to look only. `take_due` is for pushing."""
        with self._database.read() as connection:
            return outbox.due(connection, project, limit, now)

    def projects_due(self, now: float) -> list[str]:
        with self._database.read() as connection:
            return outbox.projects_due(connection, now)

    def take_due(self, project: str, limit: int, hold_until: float, now: float) -> list[Work]:
        """Take what is due, oldest first, for one push; no reply may return it meanwhile.

        A row that is RETURNED may be in Label Studio: look there first. One that is DONE cannot be. End each with
        `delivered`, `push_failed` or `drop`; what has none of them at `hold_until` is due again, as RETURNED.
        """
        with self._database.write() as connection:
            return outbox.take_due(connection, project, limit, hold_until, now)

    def delivered(self, work_ids: Sequence[int], now: float) -> None:
        """Label Studio has them: a push was confirmed, or they were found there."""
        with self._database.write() as connection:
            outbox.delivered(connection, work_ids, now)

    def push_failed(
        self, work_ids: Sequence[int], next_try_at: float, reason: Reason, now: float, *, sent: bool = True
    ) -> None:
        """Try again at `next_try_at`, having looked. `sent=False`: nothing can have arrived, so a DONE row stays so."""
        with self._database.write() as connection:
            outbox.push_failed(connection, work_ids, next_try_at, reason, now, sent=sent)

    def drop(self, work_ids: Sequence[int], reason: Reason, message: str, now: float) -> None:
        """They will never fit (the task is gone, the config changed): FAILED."""
        with self._database.write() as connection:
            outbox.drop(connection, work_ids, reason, message, now)

    # What a person does

    def cancel_project(self, project: str, now: float) -> int:
        """Cancel what is not computed yet, in steps; answers that are there are still delivered."""
        with self._database.write() as connection:
            num_running = work.cancel_running(connection, project, now)
        return num_running + self._in_steps(lambda connection: work.cancel_queued(connection, project, now))

    def retry_failed(self, project: str, now: float) -> int:
        """Queue again all that failed, in steps. What failed in its delivery keeps its answer and is DONE again."""
        return self._in_steps(lambda connection: work.retry_failed(connection, project, now))

    def summary(self) -> list[ProjectSummary]:
        """Every project, the one asked for last first. Costs the same with a million rows."""
        with self._database.read() as connection:
            return overview.summary(connection)

    def failures(self, project: str, limit: int) -> list[Work]:
        """What failed, newest first."""
        with self._database.read() as connection:
            return overview.failures(connection, project, limit)

    def rate(self, now: float, window_s: float) -> float:
        """Rows finished or failed a second in the last `window_s`: what the queue shrinks by.

        Of work that was accepted within the window, since then, or since the first of it was finished.
        """
        with self._database.read() as connection:
            return overview.rate(connection, now, window_s)

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
