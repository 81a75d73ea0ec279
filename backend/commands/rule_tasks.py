"""What people labelled in a project, for rules: the tasks to propose them from, and those held out to try them on.

Raises UsageError where the present model version is not known here, LabelStudioError and StoreError.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from backend.commands.quality_project import Read
from backend.errors import UsageError
from backend.logs import one_line
from backend.predict.label_configs import parse_or_refuse
from backend.predict.options import ProjectOptions
from backend.predict.recipe import Recipe
from backend.predict.trial import TrialTask
from backend.quality.people import Labelled
from backend.quality.project import Asked, present_tasks
from backend.quality.rule_words import divided
from backend.quality.rules import is_held_out
from backend.quality.words import Sentences
from label_config.task_value import shown

AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Halves:
    """Of `project` under its present model `version`, which asks by `label_config` and `recipe`. `proposing` has the
    pre-filled tasks as well."""

    project: str
    version: str
    label_config: str
    recipe: Recipe
    proposing: tuple[Labelled, ...]
    held_out: tuple[Labelled, ...]

    @property
    def options(self) -> ProjectOptions:
        return self.recipe.options

    @property
    def num_filled(self) -> int:
        return sum(task.saw_answer for task in self.proposing)

    @property
    def num_blind(self) -> int:
        return len(self.proposing) - self.num_filled

    def show(self, say: Sentences) -> None:
        """Print which model version it is, and which tasks are for what."""
        print(one_line(say.model_version(self.version)))
        print(divided(self.num_blind, self.num_filled, len(self.held_out), say))

    def document(self, number: int) -> dict[str, Any]:
        """The same of project `number`, for JSON."""
        return {
            "project": number,
            "model_version": self.version,
            "num_proposing": self.num_blind,
            "num_filled": self.num_filled,
        }


def halves(read: Read, asked: Asked) -> Halves:
    store, project = read.store, read.current.uid
    recipe, tasks = present_tasks(store, project, parse_or_refuse(read.current.label_config), asked)
    known, key = store.present(project), store.audit_key()
    if known is None:
        raise UsageError(f"Project {project} was deleted while it was read.")
    held_out = {task.name for task in tasks if not task.saw_answer and is_held_out(key, project, task.name)}
    return Halves(
        project,
        known[0],
        known[1].label_config,
        recipe,
        tuple(task for task in tasks if task.name not in held_out),
        tuple(task for task in tasks if task.name in held_out),
    )


def pictures_of(read: Read, recipe: Recipe, names: Sequence[str]) -> list[TrialTask]:
    """Tasks with the addresses of their pictures, as Label Studio has them now, in the order of `names`."""
    numbers = [int(name) for name in names]
    project = int(read.current.uid.partition(".")[0])
    found: list[TrialTask] = []
    for start in range(0, len(numbers), AT_ONCE):
        some = numbers[start : start + AT_ONCE]
        data = read.client.data_of(project, some)
        found += [TrialTask(id=number, image=shown(recipe.schema.image_key, data.get(number, {}))) for number in some]
    return found
