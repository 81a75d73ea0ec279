"""What to do with finished work, decided without asking anybody: what to send, what to look up first, what to drop.

Pure. `packed` keeps the order of the work; a task that is asked twice for one model version is sent once.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from backend.errors import ConfigRefused, StoreError
from backend.predict.label_configs import schema_of
from backend.reasons import Reason
from backend.store import RecipeRecord, StoredAnswer, Work

log = logging.getLogger(__name__)

MakePrediction = Callable[[Work, str], dict[str, Any]]
"""The work and its answer's content to Label Studio's `{"model_version", "score", "result"}`. Raises ValueError, and
StoreError where the work's recipe cannot be read now."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """One prediction for one task. `in_doubt`: Label Studio may have it, so look before sending."""

    work_ids: tuple[int, ...]
    task_id: int
    model_version: str
    item: Mapping[str, Any]
    in_doubt: bool


@dataclass(frozen=True, slots=True)
class Drop:
    work_ids: tuple[int, ...]
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Sorted:
    """Parcels that Label Studio has, that it lacks, and whose task is gone."""

    there: tuple[Parcel, ...]
    lacking: tuple[Parcel, ...]
    gone: tuple[Parcel, ...]


def config_problem(record: RecipeRecord | None, current_config: str) -> str:
    """Why answers to `record` no longer fit the project; empty if they do. Layout and wording may change."""
    if record is None:
        return "the label config it was made for is not known any more"
    wanted, current = _fingerprint(record.label_config), _fingerprint(current_config)
    if current is None:
        return "the project's label config was changed to one that cannot be pre-filled"
    return "" if wanted == current else "the project's label config was changed since"


def _fingerprint(label_config: str) -> str | None:
    try:
        return schema_of(label_config).fingerprint
    except ConfigRefused:
        return None


def packed(
    works: Iterable[Work], answers: Mapping[str, StoredAnswer], make_prediction: MakePrediction
) -> tuple[list[Parcel], list[Drop]]:
    """Return what to send, and the work that cannot be sent at all. Raises StoreError."""
    parcels: dict[tuple[int, str], Parcel] = {}
    drops: list[Drop] = []
    for work in works:
        task_id = _number(work.task_id)
        if task_id is None:
            drops.append(Drop((work.id,), "not_a_task", "its id is no number, so it is no task of Label Studio's"))
            continue
        in_doubt = work.told or work.state != "done" or work.push_attempts > 0
        if twin := parcels.get((task_id, work.model_version)):
            ids = (*twin.work_ids, work.id)
            parcels[task_id, work.model_version] = replace(twin, work_ids=ids, in_doubt=twin.in_doubt or in_doubt)
            continue
        item = _item(work, task_id, answers.get(work.answer_key or ""), make_prediction)
        if item is None:
            drops.append(Drop((work.id,), "unreadable", "the stored answer cannot be read; prelabel's log says more"))
        else:
            parcels[task_id, work.model_version] = Parcel((work.id,), task_id, work.model_version, item, in_doubt)
    return list(parcels.values()), drops


def sort_out(
    parcels: Iterable[Parcel], missing_tasks: Collection[int], predicted: Collection[tuple[int, str]]
) -> Sorted:
    """`predicted` are pairs of task id and model version that Label Studio has."""
    there, lacking, gone = [], [], []
    for parcel in parcels:
        if (parcel.task_id, parcel.model_version) in predicted:
            there.append(parcel)
        elif parcel.task_id in missing_tasks:
            gone.append(parcel)
        else:
            lacking.append(parcel)
    return Sorted(tuple(there), tuple(lacking), tuple(gone))


def halves(parcels: Sequence[Parcel]) -> tuple[Sequence[Parcel], Sequence[Parcel]]:
    middle = len(parcels) // 2
    return parcels[:middle], parcels[middle:]


def work_ids(parcels: Iterable[Parcel]) -> tuple[int, ...]:
    return tuple(work_id for parcel in parcels for work_id in parcel.work_ids)


def _number(task_id: int | str) -> int | None:
    """The id as a number: Label Studio refuses "12" where it takes 12."""
    if isinstance(task_id, bool):
        return None
    text = str(task_id)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _item(
    work: Work, task_id: int, answer: StoredAnswer | None, make_prediction: MakePrediction
) -> dict[str, Any] | None:
    if answer is None:
        return None
    try:
        made = make_prediction(work, answer.content)
        item = {**made, "task": task_id, "model_version": work.model_version}
        json.dumps(item, ensure_ascii=False, allow_nan=False).encode()  # else the whole batch could not be written
        return item
    except StoreError:  # no fault of the answer: it is tried again
        raise
    except Exception:  # a job's border: this answer is lost, the others go on
        log.exception("the answer for task %s cannot be read", task_id)
        return None
