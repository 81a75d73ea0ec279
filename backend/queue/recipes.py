"""The recipes of stored work, rebuilt as this version of prelabel understands them; the latest are kept in memory.

For any thread. Blocking, but for `known`. Raises StoreError.
"""

from __future__ import annotations

import threading
from typing import Any

from cachetools import LRUCache
from pydantic import ValidationError

from backend.errors import ConfigRefused
from backend.predict.answered import Answered
from backend.predict.label_configs import schema_of
from backend.predict.options import ProjectOptions
from backend.predict.recipe import MAX_RECIPES, Recipe, recipe_of
from backend.store import Store, Work


class Recipes:
    def __init__(self, store: Store, image_tokens: int) -> None:
        self._store = store
        self._image_tokens = image_tokens
        self._known: LRUCache[str, Recipe] = LRUCache(MAX_RECIPES)
        self._lock = threading.Lock()

    def add(self, recipe: Recipe) -> None:
        """What is stored under its fingerprint need not be read again."""
        with self._lock:
            self._known[recipe.fingerprint] = recipe

    def known(self, fingerprint: str) -> Recipe | None:
        """None if it is not in memory."""
        with self._lock:
            return self._known.get(fingerprint)

    def of(self, fingerprint: str) -> Recipe | None:
        """None if it is not in the store, or not understood any more."""
        recipe = self.known(fingerprint)
        if recipe is None:
            recipe = self._stored(fingerprint)
            if recipe is not None:
                self.add(recipe)
        return recipe

    def prediction(self, work: Work, content: str) -> dict[str, Any]:
        """What the delivery sends: the same, to the region ids, as a reply would have held. Raises ValueError."""
        recipe = self.of(work.recipe)
        if recipe is None:
            raise ValueError(f"the recipe {work.recipe} of the answer is not understood any more")
        return Answered.read(recipe, work.answer_key or "", content).prediction(recipe, work.task_id)

    def _stored(self, fingerprint: str) -> Recipe | None:
        record = self._store.recipe(fingerprint)
        if record is None:
            return None
        try:
            options = ProjectOptions.model_validate_json(record.options)
            return recipe_of(schema_of(record.label_config), options, self._image_tokens)
        except (ValidationError, ConfigRefused):
            return None
