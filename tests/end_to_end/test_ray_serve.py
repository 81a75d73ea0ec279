"""deploy/ray-serve.yaml on a real Ray: one API before two engine replicas on CPUs, with the built-in model."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from backend.commands.demo.background_process import free_port
from tests.backend.serving import predict_body, task
from tests.limits import WAIT_S, until
from tests.ray_cluster import PICTURES, Cluster

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "deploy" / "ray-serve.yaml"
CONFIG = (ROOT / "label_config" / "taxonomies" / "garments.en.xml").read_text(encoding="utf-8")
NUM_TASKS = 24


class Backend:
    def __init__(self, url: str, cluster: Cluster, process: subprocess.Popen[bytes]) -> None:
        self.client = httpx.Client(base_url=url, timeout=WAIT_S, trust_env=False)
        self._cluster = cluster
        self.process = process

    def predict(self, field: str) -> list[Any]:
        """A field of another name makes every answer a new one."""
        names = sorted(path.name for path in PICTURES.glob("*.png"))[:NUM_TASKS]
        tasks = [task(number, f"/data/local-files/?d={name}") for number, name in enumerate(names, 1)]
        body = predict_body(*tasks, config=CONFIG.replace('name="caption"', f'name="{field}"'))
        reply = self.client.post("/predict", json=body)
        assert reply.status_code == 200, reply.text
        return list(reply.json()["results"])

    def health(self, part: str) -> dict[str, Any]:
        reply = self.client.get("/health")
        return dict(reply.json()[part]) if reply.headers["content-type"].startswith("application/json") else {}

    def engines(self) -> list[psutil.Process]:
        return self._cluster.workers("ServeReplica:prelabel:engine")

    def until(self, condition: Callable[[], bool], what: str) -> None:
        def is_so() -> bool:
            assert self.process.poll() is None, "serve run has ended"
            with contextlib.suppress(httpx.HTTPError):
                if condition():
                    return True
            time.sleep(0.1)  # loading the model needs the CPU more than we do
            return False

        until(is_so, what)


@pytest.fixture(scope="module")
def backend(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    folder = tmp_path_factory.mktemp("serve")
    document, port = yaml.safe_load(FILE.read_text(encoding="utf-8")), free_port()
    document["http_options"]["port"] = port
    document["applications"][0]["args"] = {"replicas": 2}
    (folder / "serve.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", "from ray.serve.scripts import cli; cli()", "run", str(folder / "serve.yaml"),
             "--address", cluster.address],
            env=cluster.environment, cwd=folder, stdout=log, stderr=log,
        )  # fmt: skip
        running = Backend(f"http://127.0.0.1:{port}", cluster, process)
        try:
            with running.client:
                running.until(lambda: running.health("model").get("state") == "ready", "a model that is loaded")
                running.until(lambda: len(running.engines()) == 2, "two engines")
                yield running
            process.send_signal(signal.SIGINT)
            process.wait(WAIT_S)
            assert not running.engines(), "serve run takes the application down"
        finally:
            process.kill()
            process.wait()


def test_predictions_come_through_two_engines_and_survive_the_death_of_one(backend: Backend) -> None:
    first = backend.predict("caption")
    assert all(result["result"] for result in first)
    assert len({result["model_version"] for result in first}) == 1

    [victim, other] = backend.engines()
    with ThreadPoolExecutor(1) as thread:
        second = thread.submit(backend.predict, "words")
        backend.until(lambda: second.done() or backend.health("work").get("waiting", 0) > 0, "the request")
        victim.kill()
        assert all(result["result"] for result in second.result())
    assert other.is_running()

    backend.until(lambda: backend.health("model").get("restarts", 0) >= 1, "that its death is told")
    backend.until(lambda: len(backend.engines()) == 2, "another engine")
    backend.until(lambda: backend.health("model").get("state") == "ready", "a model that is loaded")
    assert backend.predict("caption") == first, "the answers are still in the one store"
