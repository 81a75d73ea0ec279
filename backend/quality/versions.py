"""The model versions of a project: how each answers, and which have the same answers as the present one.

What was answered under another model version that differs from the present one only in its rating
(`backend.predict.recipe`) is the same answer: it is rated anew and counts. Reads the store only. Raises StoreError, and
UsageError where it says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from backend.errors import ConfigRefused, UsageError
from backend.predict.label_configs import schema_of
from backend.predict.options import ProjectOptions
from backend.predict.recipe import Recipe, recipe_of
from backend.store import RecipeRecord, Store, StoredAnswer
from label_config.schema import LabelSchema


@dataclass(frozen=True, slots=True)
class Present:
    """The present model version, and how it answers; None if the store does not know. `recipes`: of all versions."""

    version: str
    recipe: Recipe | None
    recipes: tuple[Recipe, ...]
    _same: dict[str, frozenset[str]] = field(default_factory=dict)

    def version_of(self, stored: StoredAnswer, version: str) -> str:
        """The present one, if all that differs is the rating."""
        is_same = self.recipe is not None and self.recipe.rated_version(_answer_version(stored)) == self.version
        return self.version if is_same else version

    def as_now(self, annotations: Sequence[Any], stored: StoredAnswer | None) -> Sequence[Any]:
        """`annotations` whose form showed `stored`, the present answer, under another rating are of the present."""
        if stored is None:
            return annotations
        answer_version = _answer_version(stored)
        if answer_version not in self._same:
            rated = (recipe.rated_version(answer_version) for recipe in self.recipes)
            self._same[answer_version] = frozenset((answer_version, *rated))
        same = self._same[answer_version]
        return [
            {**one, "prediction": {**one["prediction"], "model_version": self.version}}
            if one["prediction"].get("model_version") in same
            else one
            for one in annotations
        ]


def known_present(store: Store, project: str, schema: LabelSchema) -> tuple[Recipe, Present]:
    """How the present model version answers, for who means to change that. `schema` is of the label config that Label
    Studio has now. Raises UsageError where the store does not know that version, or it answers another label config."""
    known, recipes, number = store.present(project), recipes_of(store, project, schema), project.partition(".")[0]
    if known is None or known[0] not in recipes:
        raise UsageError(
            f"Which model version project {number} has now is not known here. Run it where the data folder "
            "(PRELABEL_DATA_DIR) of the server is that answers the project."
        )
    if _own_schema(known[1], schema).fingerprint != schema.fingerprint:
        raise UsageError(
            f"The label config of project {number} was changed since its answers were made. Choose Retrieve "
            "Predictions in Label Studio, then run this again."
        )
    recipe = recipes[known[0]]
    return recipe, Present(known[0], recipe, tuple(recipes.values()))


def recipes_of(store: Store, project: str, schema: LabelSchema) -> dict[str, Recipe]:
    """By model version, each under the label config that it was asked with: what has been renamed since was no mistake.
    They read and rate answers, and ask nothing: the pictures' size does not matter."""
    known = store.present(project)
    found: dict[str, Recipe] = {}
    for version, record in [*store.version_recipes(project).items(), *([known] if known else [])]:
        with contextlib.suppress(ValidationError):
            found[version] = recipe_of(
                _own_schema(record, schema), ProjectOptions.model_validate_json(record.options), 0
            )
    return found


def _own_schema(record: RecipeRecord, otherwise: LabelSchema) -> LabelSchema:
    try:
        return schema_of(record.label_config)
    except ConfigRefused:  # another prelabel took it
        return otherwise


def _answer_version(stored: StoredAnswer) -> str:
    return stored.key.rpartition(":")[2]
