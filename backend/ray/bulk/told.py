"""What workers say while they load the model, on its way to the process that started the run.

Lines wait in a small actor of their own, which takes no CPU of the plan. What is lost on the way is lost: nothing else
hangs on it. Nothing here raises.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from backend.errors import one_line

log = logging.getLogger(__name__)

ASK_EVERY_S = 1.0
ANSWER_S = 10.0
MAX_WAITING = 10_000


class Lines:
    """The actor."""

    def __init__(self) -> None:
        self._waiting: deque[str] = deque(maxlen=MAX_WAITING)

    def add(self, line: str) -> None:
        self._waiting.append(line)

    def take(self) -> list[str]:
        taken = list(self._waiting)
        self._waiting.clear()
        return taken


@dataclass(frozen=True, slots=True)
class Tell:
    """What a worker calls with a line: `lines` is Ray's handle of the actor, whose calls wait for nothing."""

    lines: Any

    def __call__(self, line: str) -> None:
        with contextlib.suppress(Exception):  # Ray raises bare ones; the worker's own end comes by another way
            self.lines.add.remote(line)


@contextlib.contextmanager
def told_to(tell: Callable[[str], None]) -> Iterator[Tell]:
    """In the cluster that was joined: what to give to workers, whose lines `tell` gets in this block, in a thread."""
    import ray

    lines: Any = ray.remote(num_cpus=0)(Lines).remote()
    over = threading.Event()

    def hand_on() -> None:
        while not over.wait(ASK_EVERY_S):
            try:
                for line in ray.get(lines.take.remote(), timeout=ANSWER_S):
                    tell(line)
            except Exception as error:  # a thread's border: the cluster is left, or its machine is busy
                log.debug("what workers say was not heard: %s", one_line(error))

    threading.Thread(target=hand_on, name="ray-told", daemon=True).start()
    try:
        yield Tell(lines)
    finally:
        over.set()
