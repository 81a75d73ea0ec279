"""What goes into the store and comes out of it. Times are seconds since the epoch. Knows no SQL.

The life of a row of work:

    QUEUED -> RUNNING -> DONE -> DELIVERED          pushed to Label Studio by the delivery loop
                          ├----> RETURNED -> DELIVERED   it may be in Label Studio: look there before pushing it
                          └----> WITHHELD -> DONE        for the blind audit, until a person has labelled the task
    QUEUED, RUNNING -> FAILED or CANCELLED          either is queued again when Label Studio asks for the task again
    all but RUNNING -> CANCELLED                    when Label Studio does not have the task any more

A task whose picture was changed since is queued again from any state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from backend.reasons import Reason

MAX_TASK_ID = 2**63 - 1
GONE: tuple[Reason, ...] = ("task_deleted", "project_deleted")
"""Why a row is CANCELLED whose task Label Studio does not have any more."""


class WorkState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    """The answer is stored, and Label Studio has not been told."""
    WITHHELD = "withheld"
    """The answer is stored, and nobody is told before a person has labelled the task (`backend.store.audit`)."""
    RETURNED = "returned"
    """Label Studio may have it: it went out in a reply, or in a push whose end is unknown."""
    DELIVERED = "delivered"
    FAILED = "failed"
    CANCELLED = "cancelled"
    """By a person if it has no reason; else see `store.gone`."""


UNFINISHED = (WorkState.QUEUED, WorkState.RUNNING)


@dataclass(frozen=True, slots=True)
class RecipeRecord:
    """All that is needed to ask the same after a restart. `options` is the JSON text of ProjectOptions."""

    fingerprint: str
    project: str
    label_config: str
    options: str


@dataclass(frozen=True, slots=True)
class NewWork:
    """One task to predict; the same project, task and version is the same work. `recipe` is a saved fingerprint.

    Raises ValueError for a task id that is no 64-bit number: Label Studio has no such task.
    """

    project: str
    task_id: int
    model_version: str
    recipe: str
    image_url: str | None

    def __post_init__(self) -> None:
        if not -MAX_TASK_ID - 1 <= self.task_id <= MAX_TASK_ID:
            raise ValueError("task_id must fit into 64 bits")


@dataclass(frozen=True, slots=True)
class Work:
    """A row as it was read. `reason` is a short word, `message` a sentence: why it failed, or its push did.

    `attempts` counts claims, this one included. `image_url` is None when the task has none, and once it is over.
    `told`: Label Studio was told an answer of it at any time, by a reply or a push, so it may have one.
    `image_hash` stands for the picture's address, also once that is forgotten; '' in rows of older prelabels.
    """

    id: int
    project: str
    task_id: int
    model_version: str
    recipe: str
    image_url: str | None
    state: WorkState
    reason: str
    message: str
    attempts: int
    answer_key: str | None
    score: float | None
    needs_review: bool
    push_attempts: int
    interactive: bool
    told: bool
    image_hash: str


@dataclass(frozen=True, slots=True)
class Places:
    """How many rows may run at once: `of_one` project, and `urgent` more that people of it wait for. Beside them there
    are `others`, and as many `urgent` ones, which it never holds: its pictures may lie on a host that never answers."""

    of_one: int
    urgent: int = 0
    others: int = 0

    @property
    def of_one_and_its_people(self) -> int:
        return self.of_one + self.urgent

    @property
    def in_all(self) -> int:
        return self.of_one_and_its_people + self.others + self.urgent

    def left(self, running: Iterable[int]) -> int:
        """`running`: rows of each project. What one has beyond `of_one` takes no place from others."""
        return self.of_one + self.others - sum(min(num, self.of_one) for num in running)

    def left_to_people(self, running: Iterable[int]) -> int:
        return self.in_all - sum(running)


WITHOUT_END = Places(2**31)


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """`content` is the JSON of an answer, of no task yet; `key` stands for picture and answer version. `saved_at`: when
    it was given, however often it was rated since, in seconds since the epoch; 0.0 where nobody asked."""

    key: str
    content: str
    saved_at: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class ProjectSummary:
    """Of the present model version: tasks are counted, not rows. `states` and `failures` (by reason) leave out what is
    zero; what is still to be answered counts under whatever version. `num_delivered` includes what was pruned since.
    `num_review_told` of `num_needs_review` Label Studio was told of. `num_older`: tasks it was told of under an earlier
    version. `gone`, by reason: tasks Label Studio does not have any more; `done_by_people`, by the reason for which
    they had failed: those that people annotated. Neither is among the `states`.
    """

    project: str
    model_version: str
    states: Mapping[WorkState, int]
    failures: Mapping[str, int]
    num_needs_review: int
    num_review_told: int
    num_delivered: int
    num_older: int
    gone: Mapping[str, int]
    done_by_people: Mapping[str, int]
    first_accepted_at: float
    last_accepted_at: float
    last_finished_at: float | None
    last_delivered_at: float | None

    @property
    def num_tasks(self) -> int:
        return sum(self.states.values())
