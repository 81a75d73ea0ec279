"""docker-compose.yml and Dockerfile, read as files: what a first start depends on is in them, and they fit together.

No container is built here.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from backend.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    assert set(found["volumes"]) == {"label-studio-data", "prelabel-data"}
    return dict(found["services"])


def read_example(name: str) -> dict[str, str]:
    lines = (ROOT / f"{name}.env.example").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))  # type: ignore[misc]


@pytest.fixture(scope="module")
def example() -> dict[str, str]:
    return read_example("prelabel")


@pytest.fixture(scope="module")
def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text("utf-8")


def test_label_studio_may_call_a_backend_on_a_private_network(services: dict[str, Any]) -> None:
    environment = services["label-studio"]["environment"]
    assert environment["USE_DEFAULT_BANNED_SUBNETS"] == "false"
    assert environment["ML_BLOCK_LOCAL_IP"] == "false"


def test_label_studio_is_the_version_that_is_tested_here(services: dict[str, Any]) -> None:
    tag = services["label-studio"]["image"].rpartition(":")[2]
    assert f"label-studio=={tag}" in (ROOT / "constraints-label-studio.txt").read_text("utf-8").splitlines()


def test_host_names_that_label_studio_calls_have_a_dot(services: dict[str, Any]) -> None:
    [alias] = services["prelabel"]["networks"]["default"]["aliases"]
    assert "." in alias
    assert f"http://{alias}:9090" in (ROOT / "docker-compose.yml").read_text("utf-8")


def test_one_gpu_is_reserved(services: dict[str, Any]) -> None:
    [device] = services["prelabel"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}


def test_nothing_is_published_beyond_this_machine(services: dict[str, Any]) -> None:
    assert services["label-studio"]["ports"] == ["127.0.0.1:8080:8080"]
    assert services["prelabel"]["ports"] == ["127.0.0.1:9090:9090"]


@pytest.mark.parametrize(
    ("service", "secrets"),
    [
        ("label-studio", {"LABEL_STUDIO_PASSWORD", "LABEL_STUDIO_USER_TOKEN"}),
        ("prelabel", {"LABEL_STUDIO_API_KEY", "BASIC_AUTH_PASS"}),
    ],
)
def test_each_container_gets_its_own_secrets_from_a_file_that_is_not_committed(
    services: dict[str, Any], service: str, secrets: set[str]
) -> None:
    example = read_example(service)
    assert services[service]["env_file"] == f"{service}.env"
    assert f"{service}.env" in (ROOT / ".gitignore").read_text("utf-8").splitlines()
    assert {name for name in example if re.search("PASS|TOKEN|KEY", name)} == secrets
    assert all(example[name] == "" for name in secrets)


def test_prelabel_starts_with_the_settings_of_the_containers(
    services: dict[str, Any], example: dict[str, str], dockerfile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_image = dict(re.findall(r"(PRELABEL_\w+)=(\S+)", dockerfile.partition("ENV PATH=")[2].partition("USER ")[0]))
    given = in_image | example | services["prelabel"]["environment"] | {"BASIC_AUTH_PASS": "geheim"}
    for name in [n for n in os.environ if n.startswith(("PRELABEL_", "LABEL_STUDIO_", "BASIC_AUTH_"))]:
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert (settings.host, str(settings.data_dir)) == ("0.0.0.0", "/data/prelabel")
    assert settings.label_studio_url == "http://label-studio.internal:8080"


def test_the_image_runs_as_an_ordinary_user_and_watches_livez(dockerfile: str) -> None:
    last_stage = dockerfile.rpartition("\nFROM ")[2]
    assert re.search(r"^USER prelabel$", last_stage, re.MULTILINE)
    assert "/livez" in last_stage.partition("HEALTHCHECK")[2].partition("\nSTOPSIGNAL")[0]
    assert re.search(r'^ENTRYPOINT \["prelabel"\]$', last_stage, re.MULTILINE)


def test_the_image_holds_every_file_that_the_dockerfile_copies(dockerfile: str) -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    copied = {
        name.removeprefix("./")
        for line in re.findall(r"^COPY (?!--)(.+) \S+$", dockerfile, re.MULTILINE)
        for name in line.split()
    }
    assert copied <= kept
    assert all((ROOT / name).exists() for name in copied)


def test_the_tools_have_one_version(dockerfile: str) -> None:
    bootstrap = (ROOT / "scripts" / "bootstrap").read_text("utf-8")
    assert re.search(r"uv==(\S+)", dockerfile)[1] == re.search(r"UV_VERSION=(\S+)", bootstrap)[1]  # type: ignore[index]
