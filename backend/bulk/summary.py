"""What a bulk run did, in figures: the table at its end, `--summary FILE`, and the head of the HTML report.

Pure but for `write_summary`, which raises OSError.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from backend.bulk.addresses import public_source
from backend.bulk.files import json_line, replaced
from backend.bulk.left_out import LeftOutGroup, left_out_lines, num_left_out
from backend.logs import one_line
from backend.reasons import known, sentence

RunState = Literal["finished", "interrupted", "stopped"]
"""interrupted: by a person (Ctrl-C). stopped: it could not go on (the disk is full, the model is gone)."""


@dataclass(frozen=True, slots=True)
class Summary:
    """One run. num_total = num_done + num_skipped + num_failed + num_failed_before + num_left, and
    num_found = num_total + what was left out.

    `num_total` counts the distinct pictures of the sources; None if the run ended before they were counted.
    `num_done` were annotated by this run, `num_reused` of them without asking the model: their answer was stored, or
    is that of an identical picture; `num_withheld` of them are for the blind audit, and `num_review` of the others need
    review. `num_skipped` were annotated, and
    `num_failed_before` failed, in an earlier run into the same file. `failures` counts both kinds of failures by
    reason, `messages` has what was said of the first of this run's: limits stand there. `seconds` is the time from the
    first picture to the last, without `load_s` of loading; costs are of `seconds`. `label_config` is the schema's
    fingerprint. `left_out` is what the sources hold and name besides the pictures. `error`: why the run could not go
    on, or a file besides the records could not be written.
    Times are seconds since the epoch.
    """

    output: str
    sources: tuple[str, ...]
    model_version: str
    label_config: str
    language: str
    state: RunState = "finished"
    num_total: int | None = 0
    num_done: int = 0
    num_reused: int = 0
    num_withheld: int = 0
    num_review: int = 0
    num_skipped: int = 0
    num_failed: int = 0
    num_failed_before: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    messages: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[LeftOutGroup, ...] = ()
    error: str = ""
    seconds: float = 0.0
    load_s: float = 0.0
    price_per_minute: float | None = None
    started_at: float = 0.0
    finished_at: float = 0.0

    @property
    def num_left(self) -> int | None:
        """Not reached by this run."""
        if self.num_total is None:
            return None
        known = self.num_done + self.num_skipped + self.num_failed + self.num_failed_before
        return max(0, self.num_total - known)

    @property
    def num_found(self) -> int | None:
        """Files, addresses, rows of lists and tasks; a folder that was not entered counts as one."""
        return None if self.num_total is None else self.num_total + num_left_out(self.left_out)

    @property
    def images_per_s(self) -> float:
        return (self.num_done + self.num_failed) / self.seconds if self.seconds > 0 else 0.0

    @property
    def cost_yuan(self) -> float | None:
        """None: nobody said what a minute costs."""
        return None if self.price_per_minute is None else self.price_per_minute * self.seconds / 60

    @property
    def review_share(self) -> float:
        """0..1 of `num_done` without those withheld."""
        num_shown = self.num_done - self.num_withheld
        return self.num_review / num_shown if num_shown else 0.0

    @property
    def exit_code(self) -> int:
        """0 all done, 1 with failures; what a signal makes of it is the command's affair."""
        wrong = self.num_failed or self.num_failed_before or self.error
        wrong = wrong or any(group.is_lost for group in self.left_out)
        return 0 if self.state == "finished" and not wrong else 1

    def as_dict(self) -> dict[str, Any]:
        """For JSON, the figures derived from others included; addresses without what gives access to them."""
        derived = ("num_left", "num_found", "images_per_s", "cost_yuan", "review_share", "exit_code")
        sources = tuple(map(public_source, self.sources))
        return {**asdict(self), "sources": sources, **{name: getattr(self, name) for name in derived}}


def summary_table(summary: Summary) -> Table:
    """For the end of a run, in a terminal or a log."""
    return figures_table("Summary", _lines(summary))


def figures_table(title: str, lines: Iterable[tuple[str, str, str]]) -> Table:
    """`lines`: a name, a figure, and a note on it, which may be from outside."""
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column()
    for name, figure, note in lines:
        table.add_row(name, figure, Text(one_line(note), overflow="fold"))
    return table


def _lines(s: Summary) -> Iterator[tuple[str, str, str]]:
    if s.num_total is not None:
        yield "Found", f"{s.num_found:,}", account(s)
        yield "Pictures", f"{s.num_total:,}", ", ".join(map(public_source, s.sources))
    reused = f"{s.num_reused:,} of them without asking the model again" if s.num_reused else ""
    yield "Annotated", f"{s.num_done:,}", reused
    if s.num_withheld:
        note = (
            f"of these for the blind audit: their answers stand in {s.output} alone, and nobody who labels may see it"
        )
        yield "Withheld", f"{s.num_withheld:,}", note
    if s.num_skipped:
        yield "Done before", f"{s.num_skipped:,}", ""
    yield "Need review", f"{s.num_review:,}", f"{s.review_share:.1%}" if s.num_done else ""
    before = f"{s.num_failed_before:,} of them in an earlier run" if s.num_failed_before else ""
    yield "Failed", f"{s.num_failed + s.num_failed_before:,}", before
    for reason, count in sorted(s.failures.items(), key=lambda item: (-item[1], item[0])):
        what = f"{reason}: {sentence(reason)}" if known(reason) else reason
        yield "", f"{count:,}", f"{what} (The first: {s.messages[reason]})" if reason in s.messages else what
    if s.num_left:
        yield "Not reached", f"{s.num_left:,}", {"interrupted": "interrupted"}.get(s.state, "")
    yield from left_out_lines(s.left_out)
    yield "Time", duration(s.seconds), f"{s.images_per_s:.1f} images/s; the model took {duration(s.load_s)} to load"
    if s.cost_yuan is not None:
        yield "Cost", f"¥{s.cost_yuan:,.2f}", f"at ¥{s.price_per_minute:g} a minute"
    yield "Model", "", s.model_version
    if s.error:
        yield "Problem", "", s.error


def account(s: Summary) -> str:
    """What became of all that was found: the figures add up to `num_found`."""
    parts = [
        (s.num_done - s.num_withheld, "annotated"),
        (s.num_withheld, "withheld for the blind audit"),
        (s.num_failed + s.num_failed_before, "failed"),
        (s.num_skipped, "done before"),
        (s.num_left or 0, "not reached"),
        (num_left_out(s.left_out), "left out"),
    ]
    shown = " + ".join(f"{num:,} {name}" for num, name in parts if num or name in ("annotated", "failed"))
    reasons = ", ".join(f"{group.num:,} {group.reason}" for group in s.left_out)
    return f"= {shown}" + (f" ({reasons})" if reasons else "")


def duration(seconds: float) -> str:
    """`8.4 s`, `2:05` (minutes and seconds), `3:07:09`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def write_summary(summary: Summary, path: Path, exit_code: int) -> None:
    """As JSON; `exit_code` is the command's. Raises OSError."""
    document = {**summary.as_dict(), "exit_code": exit_code}
    for name in ("started_at", "finished_at"):
        document[name] = datetime.fromtimestamp(document[name]).astimezone().isoformat(timespec="seconds")
    with replaced(path) as file:
        file.write(json_line(document, indent=2))
