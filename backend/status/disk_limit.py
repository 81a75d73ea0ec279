"""Looking at disks within a limit: one that does not answer, as a network's whose server is away, would hold up whoever
asks it for ever, and in silence.

What hangs is left in its thread. Raises SettingsError, and what the looking raises.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from backend.engine.messages import LOOKS_AT_DISKS
from backend.engine.options import EngineLimits
from backend.errors import SettingsError
from backend.pages.engine_words import Why
from backend.pages.words import Words

log = logging.getLogger(__name__)

T = TypeVar("T")
_words = Words("en")


def within_limit(look: Callable[[], T], limits: EngineLimits | None = None) -> T:
    """Return or raise what `look` does. Where it takes `stall_s`, the settings whose disk may be to blame are logged;
    after `start_s`, as for the engine, SettingsError names them."""
    limits = limits or EngineLimits()
    ended: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            ended.put((look(), None))
        except BaseException as error:  # raised again by who waits
            ended.put((None, error))

    threading.Thread(target=run, name="look-at-disks", daemon=True).start()
    try:
        found, error = ended.get(timeout=limits.stall_s)
    except queue.Empty:
        log.warning("%s", _words.stage(LOOKS_AT_DISKS, stalled_s=limits.stall_s))
        try:
            found, error = ended.get(timeout=limits.start_s - limits.stall_s)
        except queue.Empty:
            why = Why("engine_disk_silent", {"stage": LOOKS_AT_DISKS, "limit": f"{limits.start_s:.0f}"})
            raise SettingsError(_words.why((why,))) from None
    if error is not None:
        raise error
    return found  # type: ignore[return-value]
