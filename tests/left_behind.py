"""The processes that tests start: which there are, and ending those that a test forgot. Linux only."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import psutil

from tests.limits import POLL_S

END_S = 20.0
_HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
"""Python's own, one for the whole life of this process."""


def children() -> set[int]:
    """Processes this one started itself and that still run."""
    found: set[int] = set()
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that ends
            found |= {int(pid) for pid in path.read_text().split()}
    return {pid for pid in found if pid != os.getpid() and _runs(pid)}


def named(name: str) -> set[int]:
    """Of `children` those that prelabel started under this name."""
    return {pid for pid in children() if name in _command(pid)}


def left_since(before: set[int]) -> set[int]:
    """Those of `children` that are new and do not end by themselves, as a process does whose pipe was just closed."""
    deadline = time.monotonic() + END_S
    while (left := _left(before)) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return left


def _left(before: set[int]) -> set[int]:
    return {pid for pid in children() - before if not _is_helper(pid)}


def _is_helper(pid: int) -> bool:
    return any(name in " ".join(_command(pid)) for name in _HELPERS)


def _command(pid: int) -> list[str]:
    """Nothing of a process that has ended."""
    try:
        return psutil.Process(pid).cmdline()
    except psutil.NoSuchProcess:
        return []


def end(pids: set[int]) -> list[str]:
    """Kill these with all they have started; returns their command lines."""
    everything: list[psutil.Process] = []
    shown: list[str] = []
    for pid in pids:
        try:
            process = psutil.Process(pid)
            command = " ".join(process.cmdline())
            everything += [process, *process.children(recursive=True)]
            shown.append(f"{pid} {command}")
        except psutil.NoSuchProcess:
            continue
    for process in everything:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(everything, timeout=END_S)
    return shown


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
