"""The durable store of prelabel: work, answers and what Label Studio was told, in one SQLite file."""

from __future__ import annotations

from backend.store.database import Options
from backend.store.store import Store
from backend.store.types import (
    NewWork,
    ProjectSummary,
    RecipeRecord,
    StoredAnswer,
    Work,
    WorkState,
)

__all__ = ["NewWork", "Options", "ProjectSummary", "RecipeRecord", "Store", "StoredAnswer", "Work", "WorkState"]
