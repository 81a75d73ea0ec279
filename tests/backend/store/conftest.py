from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.store import Store, database
from tests.backend.store.given import opened


@pytest.fixture(autouse=True, scope="session")
def _no_waiting_for_the_disk() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "SYNCHRONOUS", "OFF")
        yield


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with opened(tmp_path / "prelabel.db") as store:
        yield store
