from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backend.serving import Server, serving, task


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("PRELABEL_", "LABEL_STUDIO_", "BASIC_AUTH_")):
                patch.delenv(name)
        yield


@pytest.fixture
def own_logging() -> Iterator[None]:
    """For a command that sends the log where it wants: afterwards it goes where it went."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory, _clean_environment: None) -> Iterator[Server]:
    """One server for tests that leave no trace in it."""
    with serving(tmp_path_factory.mktemp("data")) as running:
        running.predict(task(1, note="x" * 80_000))  # it starts the process that reads such bodies, and label configs
        yield running
