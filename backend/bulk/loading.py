"""Waiting for the model: how far it is, in a line that moves on a terminal, in plain lines elsewhere; then what makes
it slower than it should be.

Raises EngineDead, and Stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterable

from rich.console import Console
from rich.text import Text

from backend.engine.api import Engine, EngineStatus
from backend.engine.messages import Ready
from backend.logs import redact
from backend.pages.words import Words
from backend.settings import Settings
from backend.status.starting import LinePace, said_of
from model_loader.sources import AUTO, GARMENTS

POLL_S = 0.02
"""Some stages are short, and `doctor --start` tells how long each was."""
_words = Words("en")


class Stopped(Exception):
    """`stop` was set before the model was there."""


async def wait_with_progress(engine: Engine, console: Console, stop: asyncio.Event | None = None) -> Ready:
    ready = await wait_until_ready(engine, console, stop)
    tell_slower(ready.slower, console)
    return ready


async def wait_until_ready(
    engine: Engine,
    console: Console,
    stop: asyncio.Event | None = None,
    noticed: Callable[[EngineStatus], None] = lambda status: None,
) -> Ready:
    """`noticed` is given the engine's status at each look."""
    waiting, pace = asyncio.create_task(engine.wait_ready(math.inf)), LinePace()
    try:
        with console.status("Starting the engine") as line:
            while not waiting.done():
                if stop is not None and stop.is_set():
                    raise Stopped
                status = engine.status
                noticed(status)
                if console.is_interactive:
                    line.update(Text(said_of(status)))
                elif status.ready is None and not status.is_gone and pace.is_due(status):
                    tell_line(said_of(status), console)
                await asyncio.wait([waiting], timeout=POLL_S)
        ready = waiting.result()
        if not console.is_interactive:
            tell_line(said_of(engine.status), console)
        return ready
    finally:
        waiting.cancel()


def tell_line(line: str, console: Console) -> None:
    """Print it as it is; from any thread."""
    with contextlib.suppress(OSError):  # a log that cannot be written must not end the run
        console.print(Text(f"prelabel: {line}"), soft_wrap=True)


def tell_choice(settings: Settings, model_name: str, console: Console) -> None:
    """Print it where `auto` has found no card and become the built-in model, which knows next to nothing."""
    if (settings.model, settings.device, model_name) == (AUTO, "auto", GARMENTS):
        console.print(Text(f"! {_words.check('card_none_for_auto', {})}", "yellow"))


def tell_slower(slower: Iterable[tuple[str, str]], console: Console, where: str = "") -> None:
    """Print a line for each of what makes the engine `where` slower than it should be (`Ready.slower`)."""
    for code, said in slower:
        told = _words.check(code, {"said": redact(said)})
        console.print(Text(f"! {where}: {told}" if where else f"! {told}", "yellow"))
