"""What loading takes of this machine's own memory (not the card's), and what there is of it; how many threads there may
be, and how many processors. Raises nothing."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from model_loader.geometry import Geometry
from model_loader.memory import GIB, SIXTEEN_BIT, plan_memory
from model_loader.troubles import Trouble, trouble

CUDA_HOST_BYTES = 2 * GIB
"""An allowance for CUDA's libraries, kernels and buffers in the engine's process; not measured."""


def judge_host_memory(
    geometry: Geometry, available: int | None, *, on_card: bool, quantisation: str = "nf4"
) -> Trouble | None:
    """Return what speaks against loading `geometry` with `available` bytes; None also where nobody knows how many.

    A tensor is read in 16 bits, and one more is made of it. On a CPU all weights stay here; of those on a card at most
    the token embedding comes back, after the load. Saving a 4-bit copy takes less than packing: a shard at a time.
    """
    if available is None:
        return None
    layer = geometry.num_experts * 2 * geometry.moe_intermediate_size * geometry.hidden_size
    largest = round(max(layer, geometry.vocab_size * geometry.hidden_size) * SIXTEEN_BIT)
    stays = CUDA_HOST_BYTES if on_card else plan_memory(geometry, quantisation=quantisation).weights_bytes
    least = stays + 2 * largest
    if available >= least:
        return None
    code = "host_too_small" if on_card else "host_too_small_for_cpu"
    return trouble(code, free=f"{available / GIB:.1f}", least=f"{least / GIB:.1f}")


def is_wsl(release: str | None = None) -> bool:
    """Whether Linux runs within Windows. `release`: the kernel's, as `uname -r` says it."""
    return "microsoft" in (platform.release() if release is None else release).lower()


def available_bytes(root: Path = Path("/")) -> int | None:
    """What a process may still take: of the machine, and of its container. None where the system does not say."""
    found = [int(line.split()[1]) * 1024 for line in _lines(root / "proc/meminfo") if line.startswith("MemAvailable:")]
    return min([*found, *_container_bytes(root)]) if found else None


def free_pids(root: Path = Path("/")) -> int | None:
    """How many more processes and threads this container, or service, may have. None where nothing limits them."""
    found = []
    for group, _ in _groups(root, "pids"):
        limit, usage = _number(group / "pids.max"), _number(group / "pids.current")
        if limit is not None and usage is not None:
            found.append(limit - usage)
    return min(found, default=None)


def num_cpus(root: Path = Path("/")) -> int:
    """How many processors this process can keep busy: those it may run on, or fewer where its container, or service, is
    given the time of fewer. More threads would wait for each other while the system holds some of them back."""
    found = [len(os.sched_getaffinity(0))]
    for group, is_first in _groups(root, "cpu"):
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if is_first else ("cpu.max",)
        words = [word for name in names for line in _lines(group / name) for word in line.split()]
        if len(words) == 2 and all(map(str.isdigit, words)) and int(words[1]):
            found.append(max(1, math.ceil(int(words[0]) / int(words[1]))))
    return min(found)


def _container_bytes(root: Path) -> Iterator[int]:
    """What each control group above this process leaves."""
    for group, is_first in _groups(root, "memory"):
        # above "high" a group is slowed down, until it stands still
        limits = ("memory.limit_in_bytes",) if is_first else ("memory.max", "memory.high")
        usage = _number(group / ("memory.usage_in_bytes" if is_first else "memory.current"))
        found = [limit for name in limits if (limit := _number(group / name)) is not None]
        if found and usage is not None:
            # files that are cached make room when it is needed, also "active" ones: those that were read twice, as a
            # model's are that was checked and loaded
            cached = tuple(f"{'total_' if is_first else ''}{kind}_file " for kind in ("active", "inactive"))
            files = [int(line.split()[1]) for line in _lines(group / "memory.stat") if line.startswith(cached)]
            yield min(found) - usage + sum(files)


def _groups(root: Path, controller: str) -> Iterator[tuple[Path, bool]]:
    """The folders of each control group above this process that has the `controller`, and whether by the first version
    of the kernel's interface."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / controllers
        group = top / path.strip().lstrip("/")
        for folder in (group, *group.parents):
            yield folder, bool(controllers)
            if folder == top:
                break


def _number(file: Path) -> int | None:
    """None also for "max"."""
    return next((int(line) for line in _lines(file) if line.isdigit()), None)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
