"""One real Label Studio and one real backend for all end-to-end tests; each test makes projects of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend import cli
from backend.commands.demo.local_backend import LocalBackend, running_backend
from backend.commands.demo.local_label_studio import LocalLabelStudio, find_label_studio, running_label_studio
from backend.commands.demo.run import PICTURES
from backend.label_studio.client import LabelStudioClient, Project
from tests.end_to_end.site import Site


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            # label-studio-sdk 2.1.2 exchanges a personal access token through a deprecated method of pydantic
            item.add_marker(pytest.mark.filterwarnings("ignore:The `parse_obj` method"))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    server = LocalLabelStudio.planned(tmp_path_factory.mktemp("label-studio"))
    with (
        running_label_studio(find_label_studio(), server),
        LabelStudioClient(server.url, server.api_key) as client,
    ):
        yield Site(server, client)


@pytest.fixture(scope="session")
def backend(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBackend]:
    with running_backend(tmp_path_factory.mktemp("backend"), site.access) as running:
        running.wait_until_ready()
        yield running


@pytest.fixture(scope="session")
def pictures() -> list[Path]:
    found = sorted(PICTURES.glob("*.png")) + sorted(PICTURES.glob("*.jpg"))
    assert len(found) >= 8
    return found


@pytest.fixture
def quality_of(
    site: Site, backend: LocalBackend, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """`prelabel quality --project ... --json`, beside the server; `fails`: it ends with an error after that."""

    def run(project: Project, *options: object, fails: bool = False) -> dict[str, Any]:
        for name, value in {
            **site.access,
            "PRELABEL_DATA_DIR": str(backend.data_dir),
            "PRELABEL_PORT": str(httpx.URL(backend.url).port),
        }.items():
            monkeypatch.setenv(name, value)
        command = ["prelabel", "quality", "--project", project.id, "--json", *options]
        monkeypatch.setattr(sys, "argv", list(map(str, command)))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert bool(ended.value.code) == fails
        return dict(json.loads(capsys.readouterr().out))

    return run
