"""What is asked of Label Studio by the way: one question after the other, in a thread of its own behind which nobody
waits, and how often. Knows nothing of the questions."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from backend.label_studio.predictions import PredictionsClient

log = logging.getLogger(__name__)

MIN_REST_S, MAX_REST_S = 2.0, 30.0
_RESTS = 3


def rest_s(took_s: float) -> float:
    """Seconds until the next look at a project, after one that was over `took_s` after it was put, the looks before it
    included: so all looks together take Label Studio a quarter of the time at most, and people see what they did at
    once where it answers quickly and few projects are looked at.
    """
    return min(MAX_REST_S, max(MIN_REST_S, _RESTS * took_s))


class Asking:
    """`connect` is None where no API key is set: nothing is asked then."""

    def __init__(self, connect: Callable[[], PredictionsClient] | None) -> None:
        self._connect = connect
        self._client: PredictionsClient | None = None
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    @property
    def is_possible(self) -> bool:
        return self._connect is not None

    def start(self) -> None:
        if self.is_possible:
            threading.Thread(target=self._run, name="asking", daemon=True).start()

    def stop(self) -> None:
        """Begin nothing more; a call under way ends by itself, or with the process."""
        self._jobs.put(None)

    def put(self, job: Callable[[], None]) -> None:
        self._jobs.put(job)

    def client(self) -> PredictionsClient:
        """For the jobs. Raises PrelabelError."""
        if self._client is None:
            assert self._connect is not None
            self._client = self._connect()
        return self._client

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception:  # a job's border: the others go on
                log.exception("something that was to be asked of Label Studio could not be")
        if self._client is not None:
            self._client.close()
