"""One batch of one project, from the store to Label Studio; runs in a thread.

Each piece of work ends delivered, dropped with a reason, or stays in `open_ids`. Raises CallFailed, Interrupted, or a
PrelabelError of the store; what was settled before is marked already. Decides nothing about when to try again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from backend.delivery.plan import (
    Drop,
    MakePrediction,
    Parcel,
    config_problem,
    halves,
    packed,
    sort_out,
    work_ids,
)
from backend.label_studio.predictions import CallFailed, PredictionsClient, is_same_project, project_number
from backend.reasons import Reason, explained
from backend.store import Store, Work

log = logging.getLogger(__name__)

_TASK_GONE = "the task is not in the project any more"
_PROJECT_GONE = "the project is not in Label Studio any more"
_LEFT_OUT = "Label Studio took the batch without this prediction; Label Studio's log says why"

Renew = Callable[[str, str], str]
"""(project, its label config now): have what is not delivered answered by that. Returns the model version of it, ""
where that cannot be done. Raises StoreError."""

MAX_LONELY_TRIES = 3


class Interrupted(Exception):
    """The process stops, or the batch took too long. Nothing is under way."""


@dataclass(slots=True, eq=False)
class Batch:
    """`may_go_on` is asked before each import. `may_be_there` says whether an import ended in the dark.
    `title` is the project's, once it was asked for."""

    client: PredictionsClient
    store: Store
    make_prediction: MakePrediction
    renew: Renew
    clock: Callable[[], float]
    may_go_on: Callable[[], bool]
    project: str
    works: Sequence[Work]
    may_be_there: bool = field(default=False, init=False)
    title: str = field(default="", init=False)
    num_delivered: int = field(default=0, init=False)
    _number: int = field(default=-1, init=False)
    _open: dict[int, Work] = field(init=False)
    _refused: list[Drop] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._open = {work.id: work for work in self.works}

    @property
    def open_ids(self) -> list[int]:
        return list(self._open)

    def run(self) -> None:
        number = project_number(self.project)
        if number is None:
            return self._drop_all("not_a_task", "it was not asked for by a project of Label Studio")
        self._number = number
        current = self.client.current_project(number)
        if current is None or not is_same_project(self.project, current.uid):
            return self._drop_all("project_deleted", _PROJECT_GONE)
        self.title = current.title
        works = list(self._open.values())
        answers = self.store.answers({work.answer_key for work in works if work.answer_key})
        parcels, drops = packed(works, answers, self.make_prediction)
        for drop in drops:
            self._drop(drop.work_ids, drop.reason, drop.message)
        self._look_up([parcel for parcel in parcels if parcel.in_doubt])
        self._drop_changed(current.label_config)  # of what Label Studio lacks: what it has was delivered
        self._import([parcel for parcel in parcels if parcel.work_ids[0] in self._open])
        self._settle_refused()

    def _drop_changed(self, current_config: str) -> None:
        """What was answered for another label config is answered anew where the present one can be pre-filled."""
        for fingerprint in {work.recipe for work in self._open.values()}:
            problem = config_problem(self.store.recipe(fingerprint), current_config)
            if problem:
                self._outdated([work.id for work in self._open.values() if work.recipe == fingerprint], problem)
                self.renew(self.project, current_config)

    def _outdated(self, ids: Sequence[int], problem: str) -> None:
        self.store.drop(ids, "config_changed", problem, self.clock())
        log.warning("project %s: %d answers are not delivered: %s", self.project, len(ids), problem)
        self._close(ids)

    def _look_up(self, parcels: Sequence[Parcel]) -> list[Parcel]:
        """Mark what Label Studio has, drop what lost its task, return the rest."""
        if not parcels:
            return []
        task_ids = {parcel.task_id for parcel in parcels}
        missing = self.client.missing_tasks(self._number, task_ids)
        found = sort_out(parcels, missing, self._predicted(parcels))
        self._delivered(found.there)
        self._drop(work_ids(found.gone), "task_deleted", _TASK_GONE)
        return list(found.lacking)

    def _predicted(self, parcels: Sequence[Parcel]) -> set[tuple[int, str]]:
        predicted: set[tuple[int, str]] = set()
        for version in {parcel.model_version for parcel in parcels}:
            task_ids = {parcel.task_id for parcel in parcels if parcel.model_version == version}
            predicted |= {(found, version) for found in self.client.predictions_of(self._number, task_ids, version)}
        return predicted

    def _import(self, parcels: Sequence[Parcel]) -> None:
        if not parcels:
            return
        if not self.may_go_on():
            raise Interrupted
        try:
            created = self.client.import_predictions(self._number, [parcel.item for parcel in parcels])
        except CallFailed as error:
            self._not_imported(parcels, error)
            return
        if created == len(parcels):
            self._delivered(parcels)
        else:
            self.may_be_there = True  # until we know which
            self._imported_in_part(parcels)
            self.may_be_there = False

    def _not_imported(self, parcels: Sequence[Parcel], error: CallFailed) -> None:
        """Label Studio imports a batch whole or not at all: find what it does not like, import the rest."""
        if error.kind == "not_found" and self.client.current_project(self._number) is None:
            return self._drop_all("project_deleted", _PROJECT_GONE)
        if error.kind not in ("refused", "too_large"):
            self.may_be_there = error.kind == "in_doubt"
            raise error
        left = self._look_up(parcels) if error.kind == "refused" else parcels
        if len(left) < len(parcels):
            self._import(left)  # a task was deleted meanwhile
        elif len(left) == 1:
            reason: Reason = "too_large" if error.kind == "too_large" else "refused"
            self._refused.append(Drop(left[0].work_ids, reason, str(error)))
        else:
            for half in halves(left):
                self._import(half)

    def _imported_in_part(self, parcels: Sequence[Parcel]) -> None:
        predicted = self._predicted(parcels)
        found = sort_out(parcels, (), predicted)
        self._delivered(found.there)
        current = self.client.current_project(self._number)
        if current is not None:
            self._drop_changed(current.label_config)
        still_open = [parcel for parcel in found.lacking if set(parcel.work_ids) & self._open.keys()]
        self._drop(work_ids(still_open), "rejected", _LEFT_OUT)

    def _settle_refused(self) -> None:
        """Drop what was refused alone while others were taken. If none was, perhaps no prediction is to blame."""
        if not self._refused:
            return
        lonely = len(self.works) == 1 and self.works[0].push_attempts >= MAX_LONELY_TRIES
        if self.num_delivered == 0 and not lonely:
            raise CallFailed(f"Label Studio refuses every prediction. {self._refused[-1].message}", "refused")
        for drop in self._refused:
            self._drop(drop.work_ids, drop.reason, drop.message)

    def _delivered(self, parcels: Iterable[Parcel]) -> None:
        ids = [work_id for work_id in work_ids(parcels) if work_id in self._open]
        if ids:
            self.store.delivered(ids, self.clock())
            self.num_delivered += len(ids)
        self._close(ids)

    def _drop_all(self, reason: Reason, message: str) -> None:
        self._drop(self.open_ids, reason, message)

    def _drop(self, ids: Iterable[int], reason: Reason, message: str) -> None:
        ids = [work_id for work_id in ids if work_id in self._open]
        if not ids:
            return
        self.store.drop(ids, reason, message, self.clock())
        log.warning(
            "project %s: %d predictions are not delivered: %s: %s. %s",
            self.project,
            len(ids),
            reason,
            message.rstrip("."),
            explained(reason).do_en,
        )
        self._close(ids)

    def _close(self, ids: Iterable[int]) -> None:
        for work_id in ids:
            del self._open[work_id]
