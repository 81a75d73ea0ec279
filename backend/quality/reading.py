"""Read what people did in a project of Label Studio into the store: all of it once, then what changed since.

A reading goes through the tasks that changed since the last one, in the order of their numbers. It may be left after
any page, by an error or a restart, and goes on there. Blocking; reads only. Raises CallFailed and StoreError.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Literal, Protocol

from backend.label_studio.people import LABELLED_AT_ONCE, PAGE, ChangedTask, Extent, PeopleOn
from backend.label_studio.predictions import CallFailed, CurrentProject, is_same_project, project_number
from backend.quality.people import saw_answer
from backend.store import Store
from backend.store.people import LabelledTask

log = logging.getLogger(__name__)

OVERLAP_S = 600.0
"""What changed so long before the end of the last reading is read again: see `label_studio.people`."""
NOTHING = '{"annotations":[],"predictions":{}}'
NOT_READ = ""
"""The content of a task that Label Studio could not tell in one reply, or fails on, or that is longer than
MAX_TASK_BYTES."""
MAX_TASK_BYTES = 2**18
"""Of what is kept of one task, hundreds of which are read at a time: a hundred people's labels and texts. Somebody may
type megabytes into a form."""
_GONE_AT_ONCE = 1_000

Read = Literal["all", "some", "gone"]


class People(Protocol):
    """Of a Label Studio: `label_studio.people.PeopleClient`."""

    def current_project(self, project_id: int) -> CurrentProject | None: ...
    def missing_tasks(self, project_id: int, task_ids: Collection[int]) -> frozenset[int]: ...
    def extent(self, project_id: int) -> Extent: ...
    def changed(self, project_id: int, since: float, after: int) -> list[ChangedTask]: ...
    def people_on(self, project_id: int, task_ids: Sequence[int]) -> list[PeopleOn]: ...


def read_people(
    client: People, store: Store, project: str, now: float, may_go_on: Callable[[], bool] = lambda: True
) -> Read:
    """`project` is as Label Studio names it to backends. `may_go_on` is asked before each page; "some": it said no.

    "gone": Label Studio has no such project any more, so what was kept of it is forgotten.
    """
    number = project_number(project)
    current = client.current_project(number) if number is not None else None
    if number is None or current is None or not is_same_project(project, current.uid):
        store.forget_people(project)
        return "gone"
    at = store.reading(project)
    until, after = at.until, at.after
    if not until:
        until, after = client.extent(number).changed_at, 0
        if not until:  # no task at all
            store.forget_people(project)
            return "all"
        store.begin_reading(project, until)
    while True:
        if not may_go_on():
            return "some"
        page = client.changed(number, max(0.0, at.since), after)
        after = page[-1].task_id if page else after
        _save(client, store, project, number, page, until, after)
        if len(page) < PAGE:
            break
    there = client.extent(number)
    _forget_deleted(client, store, project, number, there)
    store.end_reading(project, until - OVERLAP_S, there.num_tasks, now)
    return "all"


def _save(
    client: People, store: Store, project: str, number: int, page: Sequence[ChangedTask], until: float, after: int
) -> None:
    changed_at = {task.task_id: task.changed_at for task in page}
    kept = {task.task_id: task for task in store.labelled_among(project, changed_at)}
    wanted = [task.task_id for task in page if task.has_annotations or task.task_id in kept]
    found: list[LabelledTask] = []
    unlabelled = dict[int, float]()
    for start in range(0, len(wanted), LABELLED_AT_ONCE):
        for people in _people_on(client, number, wanted[start : start + LABELLED_AT_ONCE]):
            if isinstance(people, int):
                found.append(LabelledTask(people, changed_at[people], 0, 0, NOT_READ))
            elif people.annotations:
                found.append(_row(people, kept.get(people.task_id)))
            else:
                unlabelled[people.task_id] = people.changed_at
    if large := [task.task_id for task in found if task.content == NOT_READ]:
        log.warning(
            "project %d: %d tasks, such as %d, cannot be read (too large, or Label Studio fails on them): they say "
            "nothing of the answers",
            number, len(large), large[0],
        )  # fmt: skip
    store.save_people(project, found, unlabelled, until=until, after=after)


def _people_on(client: People, number: int, task_ids: Sequence[int]) -> Iterator[PeopleOn | int]:
    """In halves where one reply is too large, or Label Studio fails on it, each in its turn; of a task that cannot be
    told alone, its number."""
    try:
        found = client.people_on(number, task_ids)
    except CallFailed as error:
        if error.kind != "too_large" and not error.is_fault:
            raise
        is_fault = error.is_fault
    else:
        yield from found
        return
    if len(task_ids) == 1:
        yield from _once_more(client, number, task_ids) if is_fault else task_ids
        return
    middle = len(task_ids) // 2
    yield from _people_on(client, number, task_ids[:middle])
    yield from _people_on(client, number, task_ids[middle:])


def _once_more(client: People, number: int, task_ids: Sequence[int]) -> Sequence[PeopleOn | int]:
    """A task on which Label Studio fails: it keeps half a surrogate pair that somebody sent, and can never write it
    again. Raises CallFailed where it fails on other questions, too."""
    client.extent(number)
    try:
        return client.people_on(number, task_ids)
    except CallFailed as error:
        if not error.is_fault:
            raise
    return task_ids


def _row(people: PeopleOn, before: LabelledTask | None) -> LabelledTask:
    """What was known of an annotation and is gone from Label Studio stays known: predictions of earlier versions are
    deleted, and with them goes what their annotations were made from. What was submitted blind stays as it was when an
    answer has come since: whoever changes it then may have seen that."""
    document = json.loads(before.content if before and before.content != NOT_READ else NOTHING)
    known = {one["id"]: one for one in document["annotations"]}
    annotations = [_as_known(one, known.get(one["id"]), bool(people.predictions)) for one in people.annotations]
    content = {"annotations": annotations, "predictions": {**document["predictions"], **people.predictions}}
    num_skipped = sum(bool(one["was_cancelled"]) for one in annotations)
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    if len(text.encode("utf-8", "surrogatepass")) > MAX_TASK_BYTES:
        return LabelledTask(people.task_id, people.changed_at, 0, 0, NOT_READ)
    return LabelledTask(people.task_id, people.changed_at, len(annotations) - num_skipped, num_skipped, text)


def _as_known(annotation: Any, before: Any, is_answered: bool) -> dict[str, Any]:
    if before is None:
        return dict(annotation)
    if is_answered and not before["was_cancelled"] and not saw_answer(before):
        return {**before, **{name: annotation[name] for name in ("ground_truth", "was_cancelled")}}
    origin = {name: annotation[name] or before[name] for name in ("parent_prediction", "prediction")}
    return {**annotation, **origin}


def _forget_deleted(client: People, store: Store, project: str, number: int, there: Extent) -> None:
    """A task that is gone changes no more: it is looked for where Label Studio has less than we."""
    kept = store.people_counts(project)
    if kept.num_submitted <= there.num_submitted and kept.num_skipped_tasks <= there.num_skipped_tasks:
        return
    after = 0
    while task_ids := [task.task_id for task in store.labelled(project, after, _GONE_AT_ONCE)]:
        after = task_ids[-1]
        if gone := client.missing_tasks(number, task_ids):
            store.forget_labelled(project, gone)
