"""deploy/ray-serve.yaml on a real Ray: one API before two engine replicas on CPUs, with the built-in model."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from tests.backend.serving import predict_body, task
from tests.ray_cluster import PICTURES, Cluster, free_port

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "deploy" / "ray-serve.yaml"
CONFIG = (ROOT / "label_config" / "taxonomies" / "garments.en.xml").read_text(encoding="utf-8")
NUM_TASKS = 24
START_S = 180.0


class Backend:
    def __init__(self, url: str, cluster: Cluster, process: subprocess.Popen[bytes]) -> None:
        self.client = httpx.Client(base_url=url, timeout=100, trust_env=False)
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

    def model(self) -> dict[str, Any]:
        reply = self.client.get("/health")
        return dict(reply.json()["model"]) if reply.headers["content-type"].startswith("application/json") else {}

    def engines(self) -> list[psutil.Process]:
        return self._cluster.workers("ServeReplica:prelabel:engine")

    def until(self, condition: Callable[[], bool], timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        while True:
            try:
                if condition():
                    return
            except httpx.HTTPError:
                pass
            assert self.process.poll() is None, "serve run has ended"
            assert time.monotonic() < until, "it did not happen in time"
            time.sleep(0.1)


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
                running.until(lambda: running.model().get("state") == "ready", START_S)
                running.until(lambda: len(running.engines()) == 2, START_S)
                yield running
            process.send_signal(signal.SIGINT)
            process.wait(60)
            assert not running.engines(), "serve run takes the application down"
        finally:
            process.kill()
            process.wait()


def test_predictions_come_through_two_engines_and_survive_the_death_of_one(backend: Backend) -> None:
    first = backend.predict("caption")
    assert all(result["result"] for result in first)
    assert len({result["model_version"] for result in first}) == 1

    [victim, other] = backend.engines()
    killer = threading.Timer(0.3, victim.kill)
    killer.start()
    second = backend.predict("words")
    assert killer.finished.is_set(), "it was killed in the middle"
    killer.join()
    assert all(result["result"] for result in second)
    assert other.is_running()

    backend.until(lambda: backend.model().get("restarts") == 1, 60)
    backend.until(lambda: len(backend.engines()) == 2, 60)
    assert backend.model()["state"] == "ready"
    assert backend.predict("caption") == first, "the answers are still in the one store"
