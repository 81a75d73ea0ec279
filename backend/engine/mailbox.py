"""Messages from the API process, until the engine's loop reads them. The reader thread fills it."""

from __future__ import annotations

import threading
from collections import deque

from backend.engine.messages import ToEngine


class Mailbox:
    """A queue between two threads. What the API process may have under way bounds it (`EngineOptions.max_queue`)."""

    def __init__(self) -> None:
        self._arrived = threading.Condition()
        self._messages: deque[ToEngine] = deque()

    def put(self, message: ToEngine) -> None:
        with self._arrived:
            self._messages.append(message)
            self._arrived.notify()

    def take(self, *, wait: bool) -> list[ToEngine]:
        """Return all that has arrived, in order; with `wait`, at least one message."""
        with self._arrived:
            if wait:
                self._arrived.wait_for(lambda: self._messages)
            taken = list(self._messages)
            self._messages.clear()
            return taken
