import shutil
from pathlib import Path

import pytest

from model_loader.spellings import OFFLINE, TOKEN
from tests.model_loader.checkpoints import KINDS, dense_config, tiny_config, tiny_model, write_checkpoint


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_ENDPOINT", *OFFLINE, *TOKEN):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def _tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of each kind."""
    place = tmp_path_factory.mktemp("checkpoints")
    models = (tiny_model(config) for config in (tiny_config(), dense_config()))
    return {kind: write_checkpoint(place / kind, model) for kind, model in zip(KINDS, models, strict=True)}


@pytest.fixture
def folder(request: pytest.FixtureRequest, _tiny: dict[str, Path], tmp_path: Path) -> Path:
    """A whole tiny checkpoint, free to be damaged: a mixture-of-experts where a test asks for no kind."""
    return Path(shutil.copytree(_tiny[getattr(request, "param", KINDS[0])], tmp_path / "tiny"))
