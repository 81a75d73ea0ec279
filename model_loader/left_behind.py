"""Work that may hang in the system for ever, as writing to a disk that does not answer, or waiting for a lock that
nobody gives back: a thread that is left to it.

Knows nothing of what the work is.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

Report = Callable[[float], None]


class LeftBehind(Exception):
    """Nobody waits for this work any more: raised in its own thread, where it tells the next time how far it is."""


def watched(work: Callable[[Report], None], report: Report, limit_s: float, silent: Callable[[], None]) -> None:
    """Run `work`, whose `Report` is handed on to `report` in this thread. Raises what it raises.

    `silent` is called each time it has told nothing for `limit_s`. What that raises is raised: the work is left behind,
    and ends when it tells something.
    """
    told: queue.SimpleQueue[float | BaseException | None] = queue.SimpleQueue()
    is_left = threading.Event()

    def tell(fraction: float) -> None:
        if is_left.is_set():
            raise LeftBehind
        told.put(fraction)

    def run() -> None:
        try:
            work(tell)
        except BaseException as error:
            told.put(error)
        else:
            told.put(None)

    threading.Thread(target=run, name="watched-work", daemon=True).start()
    while True:
        try:
            said = told.get(timeout=limit_s)
        except queue.Empty:
            try:
                silent()
            except BaseException:
                is_left.set()
                raise
            continue
        if said is None:
            return
        if isinstance(said, BaseException):
            raise said
        report(said)
