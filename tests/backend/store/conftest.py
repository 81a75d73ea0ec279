from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.store import Store
from tests.backend.store.given import opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "prelabel.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with opened(path) as store:
        yield store
