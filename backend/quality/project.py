"""How good the answers of a project are, by what people did in Label Studio as the store has it. Reads the store only.

A project is looked at all the time, so its thresholds are found at planned looks (`quality.looks`).

An answer is ours as the store keeps it, else the prediction that Label Studio had. Raises StoreError, and UsageError
where it says so.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

from backend.label_studio.people import seconds
from backend.predict.answered import Answered
from backend.predict.options import ProjectOptions
from backend.predict.recipe import Recipe, recipe_of
from backend.quality.drift import Look, look_of
from backend.quality.looks import threshold_at_looks
from backend.quality.people import Account, Known, Labelled, Unused, labelled, usable
from backend.quality.reading import NOT_READ
from backend.quality.summary import Quality, quality_of
from backend.quality.threshold import DELTA, TARGET
from backend.quality.versions import Present, known_present, recipes_of
from backend.store import Store, StoredAnswer
from label_config.answer import Answer, FieldAnswer
from label_config.regions import read_score, regions_to_answer
from label_config.schema import LabelSchema, TextField

log = logging.getLogger(__name__)

MAX_VERSIONS = 5
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Asked:
    """`since`: only annotations that were made or changed then or later, in seconds since the epoch. `blind`: tasks
    that people labelled without an answer were chosen by chance. `target`, `delta`: see `guaranteed_threshold`."""

    target: float = TARGET
    delta: float = DELTA
    since: float = 0.0
    blind: bool = False


@dataclass(frozen=True, slots=True)
class OfVersion:
    """The answers under one model version."""

    model_version: str
    quality: Quality
    account: Account


@dataclass(frozen=True, slots=True)
class _Task:
    """`answers`: what there is under each model version, not yet read."""

    name: str
    annotations: Sequence[Any]
    answers: Mapping[str, StoredAnswer | Mapping[str, Any]]


def project_quality(
    store: Store, project: str, schema: LabelSchema, present: str, asked: Asked, *, task_url: str = ""
) -> list[OfVersion]:
    """Under the `present` model version first ("" if it is not known), whether or not people have said anything of it,
    then those that they have said most of; MAX_VERSIONS at most. Empty where people have said nothing of any answer.
    `task_url` and a task's number are its address in Label Studio."""
    recipes = recipes_of(store, project, schema)
    same = Present(present, recipes.get(present), tuple(recipes.values()))
    counted = Counter(version for task in _tasks(store, project, same) for version in task.answers)
    versions = [version for version, _ in counted.most_common() if version != present]
    if present and counted:
        versions.insert(0, present)
    plain = recipe_of(schema, ProjectOptions(), 0)
    return [
        _of_version(store, project, recipes.get(version, plain), version, asked, task_url, same)
        for version in versions[:MAX_VERSIONS]
    ]


def present_tasks(store: Store, project: str, schema: LabelSchema, asked: Asked) -> tuple[Recipe, list[Labelled]]:
    """How the present model version answers, and what people said of its answers. Raises what `known_present` does."""
    recipe, same = known_present(store, project, schema)
    return recipe, list(_labelled(store, project, recipe, same.version, asked, Account(), same))


def _of_version(
    store: Store, project: str, recipe: Recipe, version: str, asked: Asked, task_url: str, same: Present
) -> OfVersion:
    account = Account()
    num_unlabelled = store.reading(project).num_tasks - store.people_counts(project).num_tasks
    if num_unlabelled > 0:
        account.num["not_labelled"] = num_unlabelled
    found = quality_of(
        recipe.schema,
        _labelled(store, project, recipe, version, asked, account, same),
        account.num,
        target=asked.target,
        delta=asked.delta,
        calibration=dict(recipe.options.calibration),
        answered=_in_order(store, project, recipe, same) if version == same.version else (),
        find=threshold_at_looks,
    )
    number = project.partition(".")[0]
    has_thresholds = bool(recipe.options.review_thresholds)
    found = replace(found, task_url=task_url, project=number, has_thresholds=has_thresholds)
    return OfVersion(version, found, account)


def _labelled(
    store: Store, project: str, recipe: Recipe, version: str, asked: Asked, account: Account, same: Present
) -> Iterator[Labelled]:
    """Those that say something of the answers under `version`; the others are counted in `account`. Blind ones come
    last, in the order in which they became known."""
    chosen = store.audited_tasks(project)
    blind: list[tuple[float, Labelled]] = []
    for task in _tasks(store, project, same):
        said = _said(task, recipe, version, asked, asked.blind or int(task.name) in chosen)
        if isinstance(said, str):
            account.add(said, task.name)
        elif said.saw_answer:
            yield said
        else:
            blind.append((_known_at(task, version), said))
    yield from (said for _, said in sorted(blind, key=itemgetter(0)))


def _known_at(task: _Task, version: str) -> float:
    """When there was both a label and the answer, in seconds since the epoch. A label that is changed keeps its place,
    and so does an answer that is rated anew: what a planned look is made of stays the same."""
    labelled_at = min(seconds(one["created_at"]) for one in task.annotations if not one["was_cancelled"])
    answer = task.answers[version]
    return max(labelled_at, answer.saved_at) if isinstance(answer, StoredAnswer) else labelled_at


def _said(task: _Task, recipe: Recipe, version: str, asked: Asked, was_chosen: bool) -> Labelled | Unused:
    if not task.annotations:
        return "too_large"
    annotations = [one for one in task.annotations if seconds(one["updated_at"]) >= asked.since]
    people = usable(annotations)
    if not annotations:
        return "earlier"
    if isinstance(people, str):
        return people
    answer = _answer(recipe, task, version)
    if answer is None:
        return "no_answer"
    said = labelled(Known(task.name, answer, version), people, recipe.schema, was_chosen=was_chosen)
    if isinstance(said, str) or said.saw_answer or was_chosen:
        return said
    return "not_chosen"


def _in_order(store: Store, project: str, recipe: Recipe, same: Present) -> Iterator[Look]:
    """All answers under the present version."""
    after = (0.0, 0)
    while kept := store.answers_in_order(project, after, _AT_ONCE):
        after = kept[-1].place
        for one in kept:
            if same.version_of(one.stored, one.model_version) != same.version:
                continue
            with contextlib.suppress(ValueError):
                answer = Answered.read(recipe, one.stored.key, one.stored.content).answer
                yield look_of(recipe.schema, str(one.task_id), answer, one.place[0])


def _tasks(store: Store, project: str, same: Present) -> Iterator[_Task]:
    """All that people labelled."""
    after = 0
    while kept := store.labelled(project, after, _AT_ONCE):
        after = kept[-1].task_id
        own: dict[int, dict[str, StoredAnswer]] = {}
        for (task_id, version), stored in store.own_answers(project, [task.task_id for task in kept]).items():
            own.setdefault(task_id, {})[same.version_of(stored, version)] = stored
        for task in kept:
            if task.content == NOT_READ:
                yield _Task(str(task.task_id), (), own.get(task.task_id, {}))
                continue
            document = json.loads(task.content)
            mine = own.get(task.task_id, {})
            annotations = same.as_now(document["annotations"], mine.get(same.version))
            yield _Task(str(task.task_id), annotations, {**document["predictions"], **mine})


def _answer(recipe: Recipe, task: _Task, version: str) -> Answer | None:
    """None: there is none, or it cannot be read any more."""
    found = task.answers.get(version)
    if isinstance(found, StoredAnswer):
        try:
            return Answered.read(recipe, found.key, found.content).answer
        except ValueError:
            log.warning("the stored answer to task %s cannot be read", task.name)
            return None
    return None if found is None else _predicted(recipe.schema, found)


def _predicted(schema: LabelSchema, prediction: Mapping[str, Any]) -> Answer:
    """A prediction has no region for a field that was left empty; how sure that was shows where it is the least sure of
    all, in the score."""
    answer = regions_to_answer(schema, prediction["result"])
    score = read_score(prediction["score"])
    empty = [one.name for one in schema.fields if one.name not in answer.fields and not isinstance(one, TextField)]
    if score is not None and empty and (answer.score is None or score < answer.score):
        return Answer({**answer.fields, empty[0]: FieldAnswer(None, score)})
    return answer
