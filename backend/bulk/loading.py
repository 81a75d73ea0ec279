"""Waiting for the model in a terminal: one line that says how far it is, then what makes it slower than it should be.

Raises EngineDead, and Stopped.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from backend.engine.api import Engine
from backend.engine.messages import Ready
from backend.logs import redact
from backend.pages.words import Words
from backend.settings import Settings
from model_loader.sources import AUTO, GARMENTS

POLL_S = 0.3
_words = Words("en")


class Stopped(Exception):
    """`stop` was set before the model was there."""


async def wait_with_progress(engine: Engine, console: Console, stop: asyncio.Event | None = None) -> Ready:
    waiting = asyncio.create_task(engine.wait_ready(math.inf))
    try:
        with console.status("Starting the engine") as line:
            while not waiting.done():
                if stop is not None and stop.is_set():
                    raise Stopped
                status = engine.status
                stage = _words.stage(status.stage, status.bytes_per_s, status.left_s, status.stalled_s)
                line.update(f"{status.fraction:.0%} {stage}")
                await asyncio.wait([waiting], timeout=POLL_S)
        ready = waiting.result()
        tell_slower(ready.slower, console)
        return ready
    finally:
        waiting.cancel()


def tell_choice(settings: Settings, model_name: str, console: Console) -> None:
    """Print it where `auto` has found no card and become the built-in model, which knows next to nothing."""
    if (settings.model, settings.device, model_name) == (AUTO, "auto", GARMENTS):
        console.print(Text(f"! {_words.check('card_none_for_auto', {})}", "yellow"))


def tell_slower(slower: Iterable[tuple[str, str]], console: Console, where: str = "") -> None:
    """Print a line for each of what makes the engine `where` slower than it should be (`Ready.slower`)."""
    for code, said in slower:
        told = _words.check(code, {"said": redact(said)})
        console.print(Text(f"! {where}: {told}" if where else f"! {told}", "yellow"))
