import shutil
from pathlib import Path

import pytest

from tests.model_loader.checkpoints import write_checkpoint


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def _tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture
def folder(_tiny: Path, tmp_path: Path) -> Path:
    """A whole tiny checkpoint, free to be damaged."""
    return Path(shutil.copytree(_tiny, tmp_path / "tiny"))
