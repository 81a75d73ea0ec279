"""A Ray cluster of one machine without a GPU, as `ray start --head` makes it, with a secret of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from backend.commands.demo.background_process import free_port
from tests.limits import WAIT_S, until

PICTURES = Path(__file__).parents[1] / "model_loader" / "garments" / "pictures"
NUM_CPUS = 2
MAX_STARTS = 4
CLEAN = ("PRELABEL_", "LABEL_STUDIO_", "BASIC_AUTH_", "RAY_")

PATIENT = {
    "RAY_worker_register_timeout_seconds": f"{WAIT_S:.0f}",
    "RAY_gcs_server_request_timeout_seconds": f"{WAIT_S:.0f}",
    "RAY_agent_register_timeout_ms": f"{1000 * WAIT_S:.0f}",
    "RAY_health_check_timeout_ms": f"{1000 * WAIT_S:.0f}",
}
"""A process that is slow is not taken for dead."""
FRUGAL = {"RAY_enable_worker_prestart": "0", "RAY_prestart_worker_first_driver": "0"}
"""No processes in advance: each imports Ray, for every program that joins, and most have nothing to do here."""
EQUAL = {"RAY_worker_niceness": "0"}
"""By default 15: on a busy machine a worker would not even have started after minutes."""


class Cluster:
    """`environment` is what a process needs to join it, or to start another Ray with the same secret."""

    def __init__(self, address: str, environment: dict[str, str], process: subprocess.Popen[bytes]) -> None:
        self.address = address
        self.environment = environment
        self._process = process

    @contextmanager
    def annotate(self, *arguments: str | Path, slots: int = 64) -> Iterator[subprocess.Popen[bytes]]:
        """`prelabel annotate` with the built-in model, killed at the end of the block."""
        command = [sys.executable, "-c", "from backend.cli import main; main()", "annotate", *map(str, arguments)]
        with subprocess.Popen(
            command,
            env=self.environment | {"PRELABEL_MODEL": "garments", "PRELABEL_MAX_SLOTS": str(slots)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def workers(self, name: str) -> list[psutil.Process]:
        """The processes that run actors of this name."""
        return [found for found in _below(self._process.pid) if _title(found).startswith(f"ray::{name}")]


@contextmanager
def ray_cluster(settings: Mapping[str, str]) -> Iterator[Cluster]:
    """`settings` are in the environment of everything that the cluster runs."""
    for num_left in reversed(range(MAX_STARTS)):
        folder = Path(tempfile.mkdtemp(prefix="ray"))  # the paths of its sockets must be short
        log = folder / "log"
        try:
            with _head(folder, log, settings) as cluster:
                if cluster is not None:
                    yield cluster
                    return
                assert num_left, log.read_text()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _head(folder: Path, log: Path, settings: Mapping[str, str]) -> Iterator[Cluster | None]:
    """None if Ray's own patience, which cannot be changed, was too short for this machine."""
    token = folder / "token"
    token.write_text("0123456789abcdef" * 4)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(CLEAN)}
    environment |= {"RAY_AUTH_TOKEN_PATH": str(token), "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
    environment |= {"RAY_TMPDIR": str(folder), "COLUMNS": "120", **PATIENT, **FRUGAL, **EQUAL}
    address = f"127.0.0.1:{free_port()}"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus", str(NUM_CPUS),
                "--node-ip-address", "127.0.0.1", "--port", address.rpartition(":")[2], "--include-dashboard=false",
                "--disable-usage-stats", "--object-store-memory", str(128 * 2**20), "--temp-dir", str(folder / "r"),
            ],
            env=environment | dict(settings), stdin=subprocess.DEVNULL, stdout=said, stderr=said,
        )  # fmt: skip
    try:
        until(lambda: b"Ray runtime started" in log.read_bytes() or process.poll() is not None, "that a Ray starts")
        if process.poll() is None:
            yield Cluster(address, environment, process)
        else:
            assert "timed out during startup" in log.read_text(), log.read_text()
            yield None
    finally:
        everything = [*_below(process.pid), *(one for one in psutil.process_iter() if str(folder) in _title(one))]
        process.kill()
        process.wait()
        end(everything)


def end(processes: list[psutil.Process]) -> None:
    """Those of ours that are left."""
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=WAIT_S)


def _below(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.Error:
        return ""
