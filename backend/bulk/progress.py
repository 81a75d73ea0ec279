"""How far a bulk run is: figures that grow, and how they are shown while it runs.

On a terminal a bar that moves; elsewhere (a log file, a pipe) one plain line every LINE_EVERY_S and at each tenth of
the work. Shows on stderr. Nothing raises.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from backend.bulk.outcomes import FailedItem, Outcome
from backend.bulk.summary import duration
from backend.pages.numbers import number

LINE_EVERY_S = 10.0
RATE_WINDOW_S = 30.0
_BAR_WIDTH = 40


@dataclass(slots=True)
class Figures:
    """Of this run. `num_to_do` is None until the pictures are counted; then it is without those done before.
    `num_withheld` of `num_done` are for the blind audit; of the others, `num_review` need review. `messages`: the first
    that came with each reason of a failure."""

    num_to_do: int | None = None
    num_done: int = 0
    num_reused: int = 0
    num_withheld: int = 0
    num_review: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    messages: dict[str, str] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        if isinstance(outcome, FailedItem):
            self.failures[outcome.reason] += 1
            self.messages.setdefault(outcome.reason, str(outcome.line["message"]))
            return
        self.num_done += 1
        self.num_reused += outcome.reused
        self.num_withheld += outcome.is_withheld
        self.num_review += outcome.needs_review and not outcome.is_withheld

    @property
    def num_failed(self) -> int:
        return self.failures.total()

    @property
    def num_ended(self) -> int:
        return self.num_done + self.num_failed


class Progress:
    """Use it as a context around the run, and call `tick` a few times a second."""

    def __init__(
        self,
        figures: Figures,
        price_per_minute: float | None,
        console: Console,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._figures = figures
        self._price_per_minute = price_per_minute
        self._console = console
        self._clock = clock
        self._live: Live | None = None
        self._started_at = self._shown_at = clock()
        self._shown_ended = 0
        self._samples: deque[tuple[float, int]] = deque([(self._started_at, 0)])

    def __enter__(self) -> Progress:
        self._started_at = self._shown_at = self._clock()
        self._samples = deque([(self._started_at, 0)])
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.update(self._drawn(), refresh=True)
            self._live.stop()
        elif self._figures.num_ended > self._shown_ended:
            self._print_line()

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return self._clock() - self._started_at

    def tick(self) -> None:
        """Note how far it is, and show it if it is time to."""
        now = self._clock()
        self._samples.append((now, self._figures.num_ended))
        while self._samples[0][0] < now - RATE_WINDOW_S:
            self._samples.popleft()
        if self._live is not None:
            self._live.update(self._drawn(), refresh=True)
        elif now - self._shown_at >= LINE_EVERY_S or self._is_a_tenth_further():
            self._shown_at = now
            self._print_line()

    def text(self) -> str:
        """`1,234 of 50,000 (2.5%), 41.2 images/s, 19:45 left, ¥0.42, 12.3% for review, 3 failed`."""
        f = self._figures
        parts = [
            f"{number(f.num_ended):picture|pictures}" if f.num_to_do is None else f"{f.num_ended:,} of {f.num_to_do:,}"
        ]
        if f.num_to_do:
            parts[0] += f" ({f.num_ended / f.num_to_do:.1%})"
        rate = self.images_per_s
        parts.append(f"{rate:.1f} images/s")
        if f.num_to_do is not None and rate > 0:
            parts.append(f"{duration((f.num_to_do - f.num_ended) / rate)} left")
        if self._price_per_minute is not None:
            parts.append(f"¥{self._price_per_minute * self.seconds / 60:,.2f}")
        num_shown = f.num_done - f.num_withheld
        parts.append(f"{f.num_review / num_shown if num_shown else 0:.1%} for review")
        if f.num_withheld:
            parts.append(f"{f.num_withheld:,} withheld")
        parts.append(f"{f.num_failed:,} failed")
        return ", ".join(parts)

    @property
    def images_per_s(self) -> float:
        """Over the last RATE_WINDOW_S."""
        (since, num_then), now = self._samples[0], self._clock()
        return (self._figures.num_ended - num_then) / (now - since) if now > since else 0.0

    def _is_a_tenth_further(self) -> bool:
        f = self._figures
        if not f.num_to_do or f.num_to_do < 10:
            return False
        return f.num_ended * 10 // f.num_to_do > self._shown_ended * 10 // f.num_to_do

    def _print_line(self) -> None:
        self._shown_ended = self._figures.num_ended
        with contextlib.suppress(OSError):  # a log that cannot be written must not end the run
            print(f"prelabel: {self.text()}", file=self._console.file, flush=True)

    def _drawn(self) -> Group:
        f = self._figures
        table = Table.grid(padding=(0, 1))
        share = Text("" if not f.num_to_do else f"{f.num_ended / f.num_to_do:.0%}", style="bold")
        table.add_row(ProgressBar(f.num_to_do, f.num_ended, width=_BAR_WIDTH), share)
        return Group(table, Text(self.text()))
