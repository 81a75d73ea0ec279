from pathlib import Path

import pytest

from tests.model_loader.checkpoints import write_checkpoint


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole tiny checkpoint, free to be damaged."""
    return write_checkpoint(tmp_path / "tiny")
