"""One input at one door: how long it took, and what was wrong, if anything was."""

from __future__ import annotations

import contextlib
import random
import signal
import time
import traceback
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.doors import doors

HANGS_CPU_S = 20.0
"""Of the processor's time, so that a busy machine is no fault."""


@dataclass(frozen=True, slots=True)
class Trial:
    """`cpu_s` is this process's; `fault` is "" where the input was taken or refused by name."""

    cpu_s: float
    refused: bool
    fault: str


def tried(name: str, seed: int, folder: Path) -> Trial:
    """Try the input that `seed` gives at the door called `name`."""
    door = doors()[name]
    given = door.input_of(random.Random(f"{name} {seed}"))
    began, refused, fault = time.process_time(), False, ""
    try:
        with _no_longer_than(HANGS_CPU_S):
            door.enter(given, folder)
    except door.refusals:
        refused = True
    except Exception:
        fault = f"{name}, seed {seed}: {traceback.format_exc(limit=-3)}"
    return Trial(time.process_time() - began, refused, fault)


@contextlib.contextmanager
def _no_longer_than(cpu_s: float) -> Iterator[None]:
    def hangs(number: int, frame: types.FrameType | None) -> None:
        raise TimeoutError(f"more than {cpu_s:.0f} s of CPU time")

    before = signal.signal(signal.SIGPROF, hangs)
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
