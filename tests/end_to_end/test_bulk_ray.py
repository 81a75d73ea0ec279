"""`prelabel annotate --engine ray` with real Rays, the built-in model and two workers on CPUs."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from tests.backend.bulk.given import lines
from tests.ray_cluster import PICTURES, Cluster, end

RUN_S = 150.0
SLOTS = 4
"""Few, so that a run has many batches."""


def start(cluster: Cluster, *arguments: str | Path, slots: int = 64) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "from backend.cli import main; main()", "annotate", *map(str, arguments)],
        env=cluster.environment | {"PRELABEL_MODEL": "garments", "PRELABEL_MAX_SLOTS": str(slots)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code, and everything it said."""
    try:
        shown, errors = process.communicate(timeout=RUN_S)
    finally:
        process.kill()
        process.wait()
    return process.returncode, shown + errors


def wait_for_lines(path: Path, num_lines: int, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + RUN_S
    while process.poll() is None and time.monotonic() < until:
        if path.exists() and path.read_bytes().count(b"\n") >= num_lines:
            return
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()
    raise AssertionError("it wrote too little in time")


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


def test_a_killed_run_is_taken_up_by_a_cluster_that_loses_a_worker_and_all_is_as_from_one_engine(
    cluster: Cluster, tmp_path: Path
) -> None:
    folder, output, local = garments(tmp_path / "pictures", 48), tmp_path / "out.jsonl", tmp_path / "local.jsonl"
    (folder / "broken.png").write_bytes(b"no picture")
    spread = [folder, "-o", output, "--engine", "ray", "--data-dir", tmp_path / "a"]

    process = start(cluster, *spread, slots=SLOTS)
    its_ray: list[psutil.Process] = []
    try:
        wait_for_lines(output, 3, process)
        its_ray = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.communicate(timeout=30)
        _, alive = psutil.wait_procs([found for found in its_ray if not found.name().endswith("Agent")], timeout=60)
        assert not alive, "engines and workers end with the run; two agents of Ray's take a minute"
    finally:
        process.kill()
        end(its_ray)
    written = lines(output)
    assert 3 <= len(written) < 48

    process = start(cluster, *spread, "--ray-address", cluster.address, "--workers", "2", slots=SLOTS)
    try:
        wait_for_lines(output, len(written) + 3, process)
        workers = cluster.workers("MapWorker")
        assert len(workers) == 2
        workers[0].kill()
        code, said = finish(process)
    finally:
        process.kill()
    assert code == 1, said
    assert re.search(r"Failed +1\b", said), said
    assert lines(output)[: len(written)] == written
    assert not (tmp_path / "a" / "prelabel.db").exists()

    code, said = finish(start(cluster, folder, "-o", local, "--data-dir", tmp_path / "b"))
    assert code == 1, said
    assert by_image(output) == by_image(local)
    assert len(by_image(output)) == 48
    assert by_image(tmp_path / "out.failed.jsonl") == by_image(tmp_path / "local.failed.jsonl")


def test_an_interrupted_run_ends_in_order_and_says_how_to_go_on(cluster: Cluster, tmp_path: Path) -> None:
    folder, output = garments(tmp_path / "pictures", 48), tmp_path / "out.jsonl"
    process = start(
        cluster, folder, "-o", output, "--engine", "ray", "--ray-address", cluster.address, "--workers", "1",
        "--data-dir", tmp_path, slots=SLOTS,
    )  # fmt: skip
    try:
        wait_for_lines(output, 3, process)
        process.send_signal(signal.SIGINT)
        code, said = finish(process)
    finally:
        process.kill()
    assert code == 130, said
    assert "the pictures that workers have are left to the next run" in said
    assert "The same command again goes on from there" in said
    assert "Traceback" not in said
    assert 3 <= len(by_image(output)) < 48


HOLDER = """
import ray, sys, time
ray.init(sys.argv[1], log_to_driver=False)
@ray.remote(num_cpus=4)
class Holder:
    def ready(self): pass
holder = Holder.remote()
ray.get(holder.ready.remote())
print("holding", flush=True)
time.sleep(300)
"""


def test_a_cluster_whose_cpus_others_hold_is_told_of_at_once(cluster: Cluster, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, cluster.address]
    with subprocess.Popen(command, env=cluster.environment, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "holding\n"
            process = start(
                cluster, garments(tmp_path / "pictures", 2), "-o", tmp_path / "out.jsonl", "--engine", "ray",
                "--ray-address", cluster.address, "--workers", "2", "--data-dir", tmp_path,
            )  # fmt: skip
            code, said = finish(process)
        finally:
            holder.kill()
    assert code == 2, said
    assert "each worker needs 2 CPU, and 0 are free in the cluster" in said
    assert "Traceback" not in said
