"""The checks of a running backend, once an hour, and twice a minute while one fails: what they found last.

The start does not wait for them. A change is told in the log, one line a check with what to do about it; the rest of
the backend goes on whatever they find. Nothing is raised.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from backend.pages.words import Words
from backend.status.check import Check, troubles
from backend.store.threads import in_thread

log = logging.getLogger(__name__)

_words = Words("en")


@dataclass(frozen=True, slots=True)
class WatchPace:
    """`first_s`: after the start. `soon_s`: while a check fails."""

    first_s: float = 0.0
    period_s: float = 3_600.0
    soon_s: float = 30.0


class Watch:
    """Use it from one event loop. `look` makes all checks; it is called in a thread and may take long."""

    def __init__(self, look: Callable[[], Sequence[Check]], pace: WatchPace | None = None) -> None:
        self._look = look
        self._pace = pace or WatchPace()
        self._woken = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self.checks: tuple[Check, ...] = ()

    def start(self) -> None:
        self._loop = asyncio.create_task(self._run())

    def wake(self) -> None:
        """Something was refused that a check is about: look at once."""
        self._woken.set()

    def stop(self) -> None:
        """End. A look under way is left to itself."""
        if self._loop is not None:
            self._loop.cancel()

    async def _run(self) -> None:
        await asyncio.sleep(self._pace.first_s)
        while True:
            self._woken.clear()
            try:
                self._found(tuple(await in_thread(self._look)))
            except Exception:  # a job's border: the backend works without its checks
                log.exception("the checks could not be made")
            failing = any(check.verdict == "bad" for check in self.checks)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), self._pace.soon_s if failing else self._pace.period_s)

    def _found(self, checks: tuple[Check, ...]) -> None:
        before = {(check.name, check.code) for check in troubles(self.checks)}
        for check in troubles(checks):
            if (check.name, check.code) not in before:
                log.warning("check of %s: %s", _words.check_name(check.name), _words.check(check.code, check.values))
        mended = {check.name for check in troubles(self.checks)} - {check.name for check in troubles(checks)}
        for check in checks:
            if check.verdict == "good" and check.name in mended:
                log.info("check of %s: right again", _words.check_name(check.name))
        self.checks = checks
