"""The compose files and their env examples, read as files: what a first start depends on is in them.

No container is started here; `make image` does that.
"""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

from backend.settings import Settings, env_name, load_settings
from scripts.compose import ROOT, read_compose, run_options
from tests.deployment.dockerfile import last_stage

GPU = ("docker-compose.yml",)
CPU = ("docker-compose.yml", "docker-compose.cpu.yml")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found = read_compose(*GPU)
    assert set(found["volumes"]) == {"label-studio-data", "prelabel-data"}
    return dict(found["services"])


def read_example(name: str) -> dict[str, str]:
    lines = (ROOT / f"{name}.env.example").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))  # type: ignore[misc]


@pytest.fixture(scope="module")
def example() -> dict[str, str]:
    return read_example("prelabel")


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
    assert f"http://{alias}:9090" in (ROOT / "docs" / "docker.md").read_text("utf-8")


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


@pytest.mark.parametrize("files", [GPU, CPU], ids=["GPU", "CPU"])
def test_prelabel_starts_with_the_settings_of_the_containers(
    files: tuple[str, ...], example: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    [in_image] = [words for name, words in last_stage() if name == "ENV"]
    environment = read_compose(*files)["services"]["prelabel"]["environment"]
    # as who copies the file of a machine without containers has it
    written = example | {"PRELABEL_HOST": "127.0.0.1", "PRELABEL_PORT": "9091", "BASIC_AUTH_PASS": "geheim"}
    given = dict(re.findall(r"(PRELABEL_\w+)=(\S+)", in_image)) | written | environment
    for name in [n for n in os.environ if n.startswith(("PRELABEL_", "LABEL_STUDIO_", "BASIC_AUTH_"))]:
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert (settings.host, settings.port, str(settings.data_dir)) == ("0.0.0.0", 9090, "/data/prelabel")
    assert settings.label_studio_url == "http://label-studio.internal:8080"
    assert settings.label_studio_public_url == "http://localhost:8080"
    assert settings.device == ("cpu" if files == CPU else "auto")


@pytest.mark.parametrize("service", ["label-studio", "prelabel"])
def test_no_line_of_an_env_file_is_overruled_by_the_compose_file(services: dict[str, Any], service: str) -> None:
    lines = (ROOT / f"{service}.env.example").read_text("utf-8").splitlines()
    offered = {found[1] for line in lines if (found := re.match(r"(?:# )?([A-Z][A-Z_]+)=", line))}
    assert offered
    assert not offered & set(services[service]["environment"])


def test_every_setting_that_the_env_example_offers_exists() -> None:
    text = (ROOT / "prelabel.env.example").read_text("utf-8")
    offered = set(re.findall(r"\b((?:PRELABEL|LABEL_STUDIO|BASIC_AUTH)_[A-Z_]+)\b", text))
    assert offered <= {env_name(name) for name in Settings.model_fields}


def test_without_a_gpu_nothing_but_the_gpu_is_left_out(services: dict[str, Any]) -> None:
    on_cpu = read_compose(*CPU)["services"]
    assert on_cpu["label-studio"] == services["label-studio"]
    [device] = set(on_cpu["prelabel"]["environment"].items()) - set(services["prelabel"]["environment"].items())
    assert device == ("PRELABEL_DEVICE", "cpu")
    assert set(services["prelabel"]) - set(on_cpu["prelabel"]) == {"deploy"}


def test_a_slow_first_start_of_label_studio_keeps_nothing_from_starting(services: dict[str, Any]) -> None:
    assert services["label-studio"]["healthcheck"]["start_period"] == "900s"
    assert "--noproxy '*' " in services["label-studio"]["healthcheck"]["test"][1], "Docker may give it a proxy"
    assert [name for name, service in services.items() if "depends_on" in service] == []


def test_label_studio_calls_nobody(services: dict[str, Any]) -> None:
    environment = services["label-studio"]["environment"]
    silent = {
        "COLLECT_ANALYTICS": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "LATEST_VERSION_CHECK": "false",
    }
    assert environment.items() >= silent.items()


@pytest.mark.parametrize("service", ["label-studio", "prelabel"])
def test_each_container_has_an_init_and_logs_of_limited_size(services: dict[str, Any], service: str) -> None:
    assert services[service]["init"] is True
    assert services[service]["logging"]["options"].keys() == {"max-size", "max-file"}


def test_prelabel_is_run_without_anything_it_does_not_need() -> None:
    options = run_options(read_compose(*CPU)["services"]["prelabel"])
    for option in ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges:true", "--tmpfs=/tmp", "--init"):
        assert option in options
    grace = next(option for option in options if option.startswith("--stop-timeout="))
    assert int(grace.partition("=")[2]) > load_settings().stop_s


def test_a_key_that_docker_run_would_not_be_told_of_is_refused() -> None:
    with pytest.raises(ValueError, match="does not know privileged"):
        run_options({"image": "prelabel", "privileged": True})
