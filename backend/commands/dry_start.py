"""`prelabel doctor --start`: one start of the model as `prelabel serve` makes it, one answer, and the end.

Prints how long each stage took, what memory there is for how many requests, and what the start found of the card's
kernels and graphs. With `geometry_only` the weights are random, so nothing is downloaded, packed or saved. Exit code 1
where the start fails, gives no answer, or has to do without a part.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from backend.bulk.loading import tell_choice, wait_until_ready
from backend.engine.api import Engine, EngineStatus
from backend.engine.messages import GenerateRequest, Picture, Ready
from backend.errors import PrelabelError
from backend.logs import configure_logging, one_line, redact
from backend.pages.numbers import number
from backend.pages.words import Words
from backend.predict.build import build_engine
from backend.settings import Settings
from label_config.schema import LabelSchema, RatingField

SIDE_PX = 64
_SCHEMA = LabelSchema((RatingField("stars", "image"),), "image", "image")
_words = Words("en")
_build_impatient = partial(build_engine, patience_s=0.0)


@dataclass(frozen=True, slots=True)
class Stage:
    name: str
    took_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """`error`: why there is no model or no answer. `peak_gib`: of the device, 0 on a CPU. `restarted`: that a process
    of the engine ended, in the start or over the answer, and another one did it (`EngineStatus.restarted`). `slowed`:
    what slowed the card's clock over the answer (`Stats.slower`)."""

    stages: tuple[Stage, ...]
    ready: Ready | None
    answer_s: float
    peak_gib: float
    error: str
    restarted: tuple[tuple[str, str], ...] = ()
    slowed: tuple[tuple[str, str], ...] = ()

    @property
    def found(self) -> tuple[tuple[str, str], ...]:
        """What has to be done without, or slower, or had to be done again: the code of a check, and why."""
        return (*(self.ready.slower if self.ready else ()), *self.slowed, *self.restarted)

    @property
    def is_good(self) -> bool:
        return not self.error and self.ready is not None and not self.found


def dry_start(
    settings: Settings,
    *,
    geometry_only: bool,
    json_output: bool = False,
    make_engine: Callable[..., Engine] = _build_impatient,
) -> int:
    """Start, print, and return the exit code. Raises SettingsError."""
    settings = settings.quieter()
    configure_logging(settings.log_level)
    outcome = asyncio.run(_start(make_engine(settings, geometry_only=geometry_only)))
    if json_output:
        print(json.dumps(_report(outcome), indent=2, ensure_ascii=False))
    else:
        _print(outcome)
        if outcome.ready is not None:
            tell_choice(settings, outcome.ready.model_name, Console(highlight=False))
    return 0 if outcome.is_good else 1


async def _start(engine: Engine) -> Outcome:
    stages: list[Stage] = []
    ready, error, answer_s = None, "", 0.0
    await engine.start()
    name, since = engine.status.stage, time.monotonic()

    def over(next_stage: str) -> None:
        nonlocal name, since
        stages.append(Stage(name, time.monotonic() - since))
        name, since = next_stage, time.monotonic()

    def noticed(status: EngineStatus) -> None:
        if status.stage != name:
            over(status.stage)

    try:
        try:
            ready = await wait_until_ready(engine, Console(stderr=True), noticed=noticed)
        finally:
            over("")
        since = time.monotonic()
        await engine.generate(GenerateRequest(_SCHEMA, "", Picture(SIDE_PX, SIDE_PX, bytes(3 * SIDE_PX * SIDE_PX))))
        answer_s = time.monotonic() - since
    except PrelabelError as failed:
        error = one_line(redact(str(failed)))
    finally:
        status = engine.status
        await engine.close()
    # of a process that was started again over the answer, what that one is
    now = status.stats
    return Outcome(
        tuple(stages), status.ready or ready, answer_s, now.memory_gib, error, status.restarted, slowed=now.slower
    )


def _report(outcome: Outcome) -> dict[str, Any]:
    told = asdict(outcome)
    told["slower"] = [{"code": code, "text": _slower(code, said)} for code, said in outcome.found]
    return told


def _print(outcome: Outcome) -> None:
    console = Console(highlight=False)
    table = Table.grid(padding=(0, 2))
    for stage in outcome.stages:
        table.add_row(f"{stage.took_s:.1f} s", Text(_words.stage(stage.name)))
    if outcome.answer_s:
        table.add_row(f"{outcome.answer_s:.1f} s", "One answer")
    console.print(table)
    ready = outcome.ready
    if ready is not None:
        peak = f", {outcome.peak_gib:.1f} GiB at the peak" if outcome.peak_gib else ""
        console.print(
            f"{ready.model_name} ({ready.quantisation}) on {ready.card or ready.device}: "
            f"{ready.memory_gib:.2f} GiB of weights{peak}; {number(ready.max_slots):request|requests} at once in a KV "
            f"cache of {number(ready.kv_tokens)} positions"
        )
        on_card = ready.device.startswith("cuda")
        if on_card and not outcome.found:
            console.print(
                "✓ every kernel gives what plain torch gives, every graph what the same step gives without it"
            )
        elif not on_card:
            console.print("– no kernel and no graph to compare: there is no card")
    for code, said in outcome.found:
        console.print(Text(f"! {_slower(code, said)}", "yellow"))
    if outcome.error:
        console.print(Text(f"✗ {outcome.error}", "bold red"))


def _slower(code: str, said: str) -> str:
    return one_line(redact(_words.check(code, {"said": said})))
