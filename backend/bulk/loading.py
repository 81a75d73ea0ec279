"""Waiting for the model in a terminal: one line that says how far it is. Raises EngineDead, and Stopped."""

from __future__ import annotations

import asyncio

from rich.console import Console

from backend.engine.api import Engine
from backend.engine.messages import Ready

LOAD_S = 4 * 3600.0
POLL_S = 0.3


class Stopped(Exception):
    """`stop` was set before the model was there."""


async def wait_with_progress(engine: Engine, console: Console, stop: asyncio.Event | None = None) -> Ready:
    waiting = asyncio.create_task(engine.wait_ready(LOAD_S))
    try:
        with console.status("Starting the engine") as line:
            while not waiting.done():
                if stop is not None and stop.is_set():
                    raise Stopped
                status = engine.status
                line.update(f"Loading the model: {status.stage} {status.fraction:.0%}")
                await asyncio.wait([waiting], timeout=POLL_S)
        return waiting.result()
    finally:
        waiting.cancel()
