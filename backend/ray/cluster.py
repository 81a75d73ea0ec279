"""Join a Ray cluster, or start one on this machine, and say how many workers it can hold.

Imports ray only when it is asked to; what needs it calls `require_ray` first. `connected` blocks for seconds and may be
used from any one thread. Raises UsageError: ray is missing, the cluster is not there, or too small.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.errors import UsageError
from backend.settings import Settings

OBJECT_STORE_BYTES = 256 * 2**20
"""Of a Ray of our own: what goes through it are paths and records."""
KNOCK_S = 5.0
FREE_S = 10.0
"""Ray learns with a delay of seconds that a program has ended."""
KNOCK_EVERY_S = 0.5
_RAY = {  # what is set already stays as it is; read by the import of ray
    "RAY_USAGE_STATS_ENABLED": "0",  # it would tell Ray's makers
    "RAY_ENABLE_AUTO_CONNECT": "0",  # a call after the end would start another Ray
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a worker without a card sees none; unset, Ray warns that this changes
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # of its C++ part, which writes to our terminal
    "RAY_worker_niceness": "0",  # by default 15: beside a busy program a worker gets a thirtieth of a CPU
}


@dataclass(frozen=True, slots=True)
class Node:
    """What one machine of the cluster lends: CPUs and GPUs as Ray counts them, others' use included."""

    num_cpus: int
    num_gpus: int


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """`num_workers` engines; what each of them takes of its machine."""

    num_workers: int
    num_cpus: int
    num_gpus: int


def require_ray() -> None:
    """Raises UsageError with the command to type if it is not installed."""
    for name, value in _RAY.items():
        os.environ.setdefault(name, value)
    if _has_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # else only who starts a cluster knows that it asks for one
    try:
        import ray.data  # noqa: F401
    except ImportError:
        raise UsageError(
            "--engine ray needs Ray, the extra `ray`: deploy/README.md has the command that installs it."
        ) from None


def on_any_machine(settings: Settings) -> Settings:
    """What another process of this machine, or a machine with the same folders, needs to do the same."""
    model = Path(settings.model)
    changed = {"model": str(model.resolve())} if model.is_dir() else {}
    for name in ("data_dir", "quantised_dir", "local_files_root", "extra_ca_file"):
        path: Path | None = getattr(settings, name)
        if path is not None:
            changed[name] = path.absolute()  # type: ignore[assignment]
    if settings.device.startswith("cuda:"):
        changed["device"] = "cuda"  # Ray gives each worker a card of its own
    return settings.model_copy(update=changed)


def _has_token() -> bool:
    """Whether Ray's secret lies where Ray looks for it."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return True
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token").is_file()


_leaving = threading.Lock()


@contextlib.contextmanager
def connected(
    address: str | None, num_workers: int | None, start: Callable[[str | None, int], object] | None = None
) -> Iterator[None]:
    """In the cluster at `address` ("HOST:PORT" or "auto"), or in one of our own that ends with the block.

    `start` does what `ray.init` does. If it fails, Ray forgets what it had begun: its processes are ended here.
    """
    if address is not None and "://" in address:
        raise UsageError(
            f"--ray-address {address}: run this command on a machine of the cluster, with --ray-address auto."
        )
    if address is not None and address != "auto":
        _knock(address)
    require_ray()
    before = _children()
    try:
        (start or _init)(address, num_workers or 1)
    except BaseException as error:
        leave()
        _end(_children() - before)
        if isinstance(error, Exception):  # of any kind: Ray raises bare ones
            raise UsageError(_no_cluster(address, error)) from None
        raise
    try:
        yield
    finally:
        leave()


def _init(address: str | None, num_workers: int) -> None:
    import ray

    # What Ray logs while it starts is a traceback of what it raises.
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL, "namespace": "prelabel"}
    if address is None:
        num_cpus = max(len(os.sched_getaffinity(0)), num_workers)
        ray.init("local", num_cpus=num_cpus, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **common)
    else:
        ray.init(address, **common)
    logging.getLogger("ray").setLevel(logging.ERROR)


def _children() -> set[int]:
    """Processes that this one has started."""
    found: set[int] = set()
    for file in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            found.update(map(int, file.read_text().split()))
    return found


def _end(processes: set[int]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)


def leave() -> None:
    """End our part of the cluster, from any thread: whoever waits for something of it gets a RayError."""
    import ray

    with _leaving:
        ray.shutdown()


def _knock(address: str) -> None:
    """Ray itself waits for minutes. Raises UsageError."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_S).close()
    except (OSError, ValueError) as error:
        raise UsageError(_no_cluster(address, error)) from None


def _no_cluster(address: str | None, error: Exception) -> str:
    said = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
    if address is None:
        return (
            f"Ray cannot be started on this machine: {said}. Nothing of it is left running. Try again when the machine "
            "has more memory and CPU free, or without --engine ray."
        )
    return (
        f"There is no Ray to join at {address}. Start one with  ray start --head  , run this command on one of its "
        f"machines, and with the same versions of Ray and Python ({said})."
    )


def nodes() -> list[Node]:
    """The machines of the cluster that was joined."""
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return [Node(int(lent.get("CPU", 0)), int(lent.get("GPU", 0))) for lent in alive]


def free_resources() -> dict[str, float]:
    """What nobody uses of the cluster that was joined, as Ray names it."""
    import ray

    return dict(ray.available_resources())  # type: ignore[no-untyped-call]


def check_free(
    plan: WorkerPlan, free: Callable[[], Mapping[str, float]] = free_resources, patience_s: float = FREE_S
) -> None:
    """Raises UsageError if others use so much of the cluster that not one worker of `plan` can start in that time."""
    until = time.monotonic() + patience_s
    while lacking := _lacking(plan, free()):
        if time.monotonic() > until:
            raise UsageError(
                f"{lacking} in the cluster: other programs hold the rest (`ray status` shows how much; a backend under "
                "Ray Serve is one). End one of them first."
            )
        time.sleep(KNOCK_EVERY_S)


def _lacking(plan: WorkerPlan, free: Mapping[str, float]) -> str:
    for name, needed in (("GPU", plan.num_gpus), ("CPU", plan.num_cpus)):
        if needed > free.get(name, 0):
            return f"each worker needs {needed} {name}, and {free.get(name, 0):g} are free"
    return ""


def plan_workers(machines: list[Node], asked_for: int | None, settings: Settings) -> WorkerPlan:
    """One engine a GPU, or else one a machine with all its CPUs; `asked_for` engines if a number was given.

    Raises UsageError when they do not fit.
    """
    num_gpus = sum(node.num_gpus for node in machines)
    if num_gpus and settings.device != "cpu":
        if (asked_for or 0) > num_gpus:
            raise UsageError(f"--workers {asked_for}: the cluster has {num_gpus} GPUs, and each worker needs one.")
        has_cpus = all(node.num_cpus >= node.num_gpus for node in machines)
        return WorkerPlan(asked_for or num_gpus, 1 if has_cpus else 0, 1)
    if settings.device.startswith("cuda"):
        raise UsageError(f"PRELABEL_DEVICE={settings.device}: the Ray cluster has no GPU.")
    num_workers = asked_for or max(1, sum(node.num_cpus > 0 for node in machines))
    for share in range(sum(node.num_cpus for node in machines) // num_workers, 0, -1):
        if sum(node.num_cpus // share for node in machines) >= num_workers:
            return WorkerPlan(num_workers, share, 0)
    total = sum(node.num_cpus for node in machines)
    raise UsageError(f"--workers {num_workers}: the cluster has {total} CPUs, and each worker needs one.")
