"""What a bulk run would do, and what that would take: counted, and measured on a sample. Writes no output.

The sample is spread over the pictures and goes through the engine as the run would, after one that warms it up.
Answers that are stored are not looked up: that would measure the store.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from rich.console import Console
from rich.table import Table

from backend.bulk.answers import Answers
from backend.bulk.items import Item, Known
from backend.bulk.job import IMAGE_KEY, survey
from backend.bulk.label_configs import LabelConfig
from backend.bulk.ledger import read_past
from backend.bulk.left_out import LeftOut, LeftOutGroup, left_out_lines, num_left_out
from backend.bulk.lists import ListOptions
from backend.bulk.loading import Stopped
from backend.bulk.local_run import loaded_model
from backend.bulk.options import BulkOptions
from backend.bulk.outcomes import Annotator, Outcome
from backend.bulk.progress import Figures
from backend.bulk.run import BulkRun
from backend.bulk.sources import find_pictures
from backend.bulk.summary import duration, figures_table
from backend.pages.numbers import number
from backend.settings import Settings

MIN_SAMPLE = 16


@dataclass(frozen=True, slots=True)
class Estimate:
    """`num_to_do` of `num_total` pictures; `seconds` is their time at the sample's speed, without loading."""

    num_total: int
    num_done_before: int
    num_failed_before: int
    num_to_do: int
    num_sampled: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    images_per_s: float = 0.0
    load_s: float = 0.0
    num_workers: int = 0
    model_version: str = ""
    price_per_minute: float | None = None
    left_out: tuple[LeftOutGroup, ...] = ()

    @property
    def seconds(self) -> float:
        return self.num_to_do / self.images_per_s if self.images_per_s else 0.0

    @property
    def cost_yuan(self) -> float | None:
        return None if self.price_per_minute is None else self.price_per_minute * self.seconds / 60

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "seconds": self.seconds, "cost_yuan": self.cost_yuan}


async def dry_run(
    settings: Settings, options: BulkOptions, config: LabelConfig | None, console: Console, stop: asyncio.Event
) -> Estimate:
    """Raises UsageError, EngineDead, and Stopped."""
    lists = ListOptions(config.schema.image_key if config else IMAGE_KEY, options.column)
    known = Known()
    if options.output is not None and not options.overwrite:
        known = read_past(options.output, retry_failed=options.retry_failed).known
    left_out = LeftOut()
    counts = await asyncio.to_thread(survey, options, known, lists, left_out, stop.is_set)
    if counts is None:
        raise Stopped
    counted = Estimate(
        counts.num_total,
        counts.num_done_before,
        counts.failed_before.total(),
        counts.num_new,
        price_per_minute=settings.price_per_minute,
        left_out=left_out.groups,
    )
    if not counts.num_new:
        return counted
    async with loaded_model(settings, config, console, stop) as loaded:
        num_workers = loaded.num_workers(options.num_workers, settings)
        found = find_pictures(options.sources, lists, LeftOut())
        items = _sample(counts.again(found), counts.num_new, max(MIN_SAMPLE, 2 * num_workers))
        figures, images_per_s = await _measure(loaded.annotator(Answers(None)), items, num_workers, stop)
        return replace(
            counted,
            num_sampled=figures.num_ended,
            failures=dict(figures.failures.most_common()),
            images_per_s=images_per_s,
            load_s=loaded.load_s,
            num_workers=num_workers,
            model_version=loaded.model_version,
        )


def _sample(items: Iterable[Item], num_items: int, size: int) -> list[Item]:
    """`size` of them, or all, at even distances."""
    chosen = {number * num_items // size for number in range(size)}
    return [item for number, item in enumerate(items) if number in chosen]


async def _measure(
    annotator: Annotator, items: Sequence[Item], num_workers: int, stop: asyncio.Event
) -> tuple[Figures, float]:
    """The figures of the sample, and images a second while the engine was full."""
    figures = Figures()
    ended_at: list[float] = []

    def take(outcome: Outcome) -> None:
        figures.add(outcome)
        ended_at.append(time.monotonic())

    await annotator.annotate(items[0])
    began = time.monotonic()
    await BulkRun(annotator, iter(items), take, num_workers, stop=stop).run()
    if stop.is_set():
        raise Stopped
    return figures, rate([began, *ended_at], num_workers)


def rate(times: Sequence[float], num_workers: int) -> float:
    """Images a second, of the times when a run began and when each picture ended.

    Of a long enough run, the time when it filled up and the one when it ran out are left out, for they are the same
    in a run of any length.
    """
    edge = num_workers // 2 if len(times) > 2 * num_workers else 0
    first, last = times[edge], times[-1 - edge]
    return (len(times) - 1 - 2 * edge) / (last - first) if last > first else 0.0


def estimate_table(estimate: Estimate) -> Table:
    return figures_table("Dry run: nothing was written", _lines(estimate))


def _lines(e: Estimate) -> Iterator[tuple[str, str, str]]:
    num_others = num_left_out(e.left_out)
    account = f"= {number(e.num_total):picture|pictures}" + (f" + {num_others:,} left out" if num_others else "")
    yield "Found", f"{e.num_total + num_others:,}", account
    yield "Pictures", f"{e.num_total:,}", ""
    if e.num_done_before:
        yield "Done before", f"{e.num_done_before:,}", ""
    if e.num_failed_before:
        yield "Failed before", f"{e.num_failed_before:,}", "--retry-failed tries them again"
    yield "To do", f"{e.num_to_do:,}", ""
    yield from left_out_lines(e.left_out)
    if e.num_sampled:
        yield "Sample", f"{e.num_sampled:,}", f"{e.images_per_s:.1f} images/s, {e.num_workers} at a time"
        for reason, count in e.failures.items():
            yield "", f"{count:,}", f"failed: {reason}"
        yield "Time", duration(e.seconds), f"and {duration(e.load_s)} to load the model"
        if e.cost_yuan is not None:
            yield "Cost", f"¥{e.cost_yuan:,.2f}", f"at ¥{e.price_per_minute:g} a minute"
        else:
            yield "Cost", "", "not known: --price-per-minute, or PRELABEL_PRICE_PER_MINUTE, says what a minute costs"
        yield "Model", "", e.model_version
