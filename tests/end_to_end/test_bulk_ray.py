"""`prelabel annotate --engine ray` with a real Ray, the built-in model and workers on CPUs."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from tests.backend.bulk.given import lines
from tests.limits import TEST_S, WAIT_S, until
from tests.ray_cluster import PICTURES, Cluster, end

SLOTS = 4
"""Few, so that a run has many batches."""


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Exit code, and everything it said."""
    said, _ = process.communicate(timeout=TEST_S)
    return process.returncode, said.decode()


def wait_for_lines(path: Path, num_lines: int, process: subprocess.Popen[bytes]) -> None:
    def is_there() -> bool:
        return path.exists() and path.read_bytes().count(b"\n") >= num_lines

    until(lambda: is_there() or process.poll() is not None, f"that it wrote {num_lines} records")
    assert process.poll() is None, process.communicate()


def wait_for_workers(cluster: Cluster, num: int, process: subprocess.Popen[bytes]) -> None:
    until(lambda: len(cluster.workers("MapWorker")) == num or process.poll() is not None, f"that {num} workers begin")
    assert process.poll() is None, process.communicate()


def garments(folder: Path, num: int) -> Path:
    """Each is another picture of a garment."""
    folder.mkdir()
    sources = sorted(PICTURES.glob("*.png"))
    for number in range(num):
        with Image.open(sources[number % len(sources)]) as image:
            turned = image.rotate(number // len(sources))
            turned.save(folder / f"{number:03}.png")
    return folder


def by_image(path: Path) -> dict[str, Any]:
    found = lines(path)
    assert set(Counter(line["image"] for line in found).values()) <= {1}
    return {line["image"]: line for line in found}


def test_a_run_that_loses_a_worker_ends_as_one_with_one_engine(cluster: Cluster, tmp_path: Path) -> None:
    folder, output, local = garments(tmp_path / "pictures", 60), tmp_path / "out.jsonl", tmp_path / "local.jsonl"
    (folder / "broken.png").write_bytes(b"no picture")
    options = ("--engine", "ray", "--ray-address", cluster.address, "--workers", "2", "--data-dir", tmp_path / "a")
    with cluster.annotate(folder, "-o", output, *options, slots=SLOTS) as process:
        wait_for_workers(cluster, 2, process)
        wait_for_lines(output, 3, process)
        workers = cluster.workers("MapWorker")
        assert len(workers) == 2
        assert {worker.nice() for worker in workers} == {psutil.Process().nice()}
        workers[0].kill()
        code, said = finish(process)
    assert code == 1, said
    assert re.search(r"Failed +1\b", said), said
    assert re.search(r"^prelabel: \S+, process \d+: garments \(nf4\) on cpu, .* loaded in ", said, re.MULTILINE), said
    assert not (tmp_path / "a" / "prelabel.db").exists()

    with cluster.annotate(folder, "-o", local, "--data-dir", tmp_path / "b") as process:
        code, said = finish(process)
    assert code == 1, said
    assert by_image(output) == by_image(local)
    assert len(by_image(output)) == 60
    assert by_image(tmp_path / "out.failed.jsonl") == by_image(tmp_path / "local.failed.jsonl")


def test_an_interrupted_run_ends_in_order_and_says_how_to_go_on(cluster: Cluster, tmp_path: Path) -> None:
    folder, output = garments(tmp_path / "pictures", 300), tmp_path / "out.jsonl"
    options = ("--engine", "ray", "--ray-address", cluster.address, "--workers", "1", "--data-dir", tmp_path)
    with cluster.annotate(folder, "-o", output, *options, slots=SLOTS) as process:
        wait_for_workers(cluster, 1, process)
        wait_for_lines(output, 1, process)
        process.send_signal(signal.SIGINT)
        code, said = finish(process)
    assert code == 130, said
    assert "the pictures that workers have are left to the next run" in said
    assert "The same command again goes on from there" in said
    assert "Traceback" not in said
    assert 1 <= len(by_image(output)) < 300


@pytest.mark.soak
def test_a_killed_run_takes_its_own_ray_along_and_a_cluster_goes_on_from_there(
    cluster: Cluster, tmp_path: Path
) -> None:
    folder, output = garments(tmp_path / "pictures", 60), tmp_path / "out.jsonl"
    spread = (folder, "-o", output, "--engine", "ray", "--data-dir", tmp_path)
    with cluster.annotate(*spread, slots=SLOTS) as process:
        wait_for_lines(output, 3, process)
        its_ray = psutil.Process(process.pid).children(recursive=True)
        try:
            process.kill()
            _, alive = psutil.wait_procs([one for one in its_ray if not one.name().endswith("Agent")], timeout=WAIT_S)
            assert not alive, "engines and workers end with the run; two agents of Ray's take a minute"
        finally:
            end(its_ray)
    written = lines(output)
    assert 3 <= len(written) < 60
    with cluster.annotate(*spread, "--ray-address", cluster.address, slots=SLOTS) as process:
        code, said = finish(process)
    assert code == 0, said
    assert lines(output)[: len(written)] == written
    assert len(by_image(output)) == 60


HOLDER = """
import ray, sys
ray.init(sys.argv[1], log_to_driver=False)
@ray.remote(num_cpus=2)
class Holder:
    def ready(self): pass
holder = Holder.remote()
ray.get(holder.ready.remote())
print("holding", flush=True)
sys.stdin.read()
"""


@pytest.mark.soak
def test_a_cluster_whose_cpus_others_hold_is_told_of(cluster: Cluster, tmp_path: Path) -> None:
    command, pipe = [sys.executable, "-c", HOLDER, cluster.address], subprocess.PIPE
    options = ("--engine", "ray", "--ray-address", cluster.address, "--workers", "2", "--data-dir", tmp_path)
    with subprocess.Popen(command, env=cluster.environment, stdin=pipe, stdout=pipe, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "holding\n"
            with cluster.annotate(garments(tmp_path / "p", 2), "-o", tmp_path / "out.jsonl", *options) as process:
                code, said = finish(process)
        finally:
            holder.kill()
    assert code == 2, said
    assert "each worker needs 1 CPU, and 0 are free in the cluster" in said
    assert "Traceback" not in said
