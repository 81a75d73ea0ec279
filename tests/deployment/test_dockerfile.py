"""The Dockerfile, read as instructions: what is a layer of its own, and what the image runs. `make image` builds it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from model_loader.cards import DRIVER_FOR_CUDA
from scripts.compose import ROOT
from tests.deployment.dockerfile import Instruction, last_stage, stages
from tests.limits import RUN_S

CODE = {"backend", "label_config", "model_loader"}


def of(stage: list[Instruction], name: str) -> list[str]:
    return [rest for found, rest in stage if found == name]


def copied(stage: list[Instruction]) -> set[str]:
    """What the stage copies from the repository."""
    rests = [rest for rest in of(stage, "COPY") if not rest.startswith("--from=")]
    return {name.removeprefix("./") for rest in rests for name in rest.split()[:-1]}


def test_a_change_of_code_or_of_tool_settings_leaves_the_dependencies_as_they_are() -> None:
    found = stages()
    assert of(found["dependencies"], "FROM") == ["uv AS dependencies"]
    assert of(found["dependencies"], "COPY") == ["--from=requirements /requirements.txt /requirements.txt"]
    assert not copied(found["uv"])
    assert [name for name, stage in found.items() if copied(stage) & CODE] == ["code"]
    assert copied(found["code"]) > CODE


def test_the_dependencies_are_a_layer_below_the_code_and_nothing_that_changes_lies_under_them() -> None:
    assert of(last_stage(), "COPY") == [
        "--from=dependencies /opt/prelabel /opt/prelabel",
        "--from=code /opt/code /opt/prelabel",
    ]
    assert "--prefix /opt/code" in of(stages()["code"], "RUN")[0]
    names = [name for name, _ in last_stage()]
    assert "RUN" not in names[names.index("COPY") :], "a layer of its own would come after the code"


def test_the_base_can_be_another_and_is_the_same_for_all_stages() -> None:
    bases = [stage[0][1].partition(" AS ")[0] for stage in stages().values()]
    assert set(bases) <= {"${BASE}", *stages()}


def test_the_image_runs_as_an_ordinary_user_in_data_and_watches_livez() -> None:
    stage = last_stage()
    assert of(stage, "USER") == ["prelabel"]
    assert of(stage, "VOLUME") == of(stage, "WORKDIR") == ["/data"]
    assert "/livez" in of(stage, "HEALTHCHECK")[0]
    assert (of(stage, "ENTRYPOINT"), of(stage, "CMD")) == (['["prelabel"]'], ['["serve"]'])


class Alive(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/livez" else 404)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.mark.parametrize("alive", [True, False])
def test_the_health_check_asks_the_port_that_prelabel_has_and_no_proxy(alive: bool) -> None:
    command = json.loads(of(last_stage(), "HEALTHCHECK")[0].partition(" CMD ")[2])
    server = HTTPServer(("127.0.0.1", 0), Alive)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    if not alive:
        server.shutdown()
        server.server_close()
    proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environment = {**os.environ, **proxies, "PRELABEL_PORT": str(server.server_port)}
    done = subprocess.run(
        [sys.executable, *command[1:]], env=environment, capture_output=True, timeout=RUN_S, check=False
    )
    if alive:
        server.shutdown()
        server.server_close()
    assert (done.returncode == 0) is alive, done.stderr.decode()


def test_data_begins_empty_and_belongs_to_that_user() -> None:
    [setup] = of(last_stage(), "RUN")
    assert "useradd --uid 10001" in setup
    assert "--no-create-home" in setup, "a home that useradd makes holds a shell's files"
    assert "install --directory --owner prelabel --group prelabel /data" in setup


def test_the_image_holds_every_file_that_the_dockerfile_copies() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    needed = set().union(*(copied(stage) for stage in stages().values()))
    assert needed == kept
    assert all((ROOT / name).exists() for name in needed)


def test_the_tools_have_one_version() -> None:
    bootstrap = (ROOT / "scripts" / "bootstrap").read_text("utf-8")
    [install] = of(stages()["uv"], "RUN")
    assert re.search(r"uv==(\S+)", install)[1] == re.search(r"UV_VERSION=(\S+)", bootstrap)[1]  # type: ignore[index]


def test_a_driver_that_is_too_old_for_torchs_cuda_is_refused_when_the_container_starts() -> None:
    [pinned] = re.findall(r"^cuda-toolkit==(\d+\.\d+)", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    [environment] = of(last_stage(), "ENV")
    assert f"NVIDIA_REQUIRE_CUDA=cuda>={pinned}" in environment.split()
    assert int(pinned.partition(".")[0]) in DRIVER_FOR_CUDA
