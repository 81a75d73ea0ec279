"""The recipe of stored work, rebuilt as this version of prelabel understands it. Blocking. Raises StoreError."""

from __future__ import annotations

from pydantic import ValidationError

from backend.errors import ConfigRefused
from backend.predict.label_configs import schema_of
from backend.predict.options import ProjectOptions
from backend.predict.recipe import Recipe, recipe_of
from backend.store import Store


def recipe_in(store: Store, fingerprint: str, image_tokens: int) -> Recipe | None:
    """None if it is not known or not understood any more."""
    record = store.recipe(fingerprint)
    if record is None:
        return None
    try:
        options = ProjectOptions.model_validate_json(record.options)
        return recipe_of(schema_of(record.label_config), options, image_tokens)
    except (ValidationError, ConfigRefused):
        return None
