"""Everything the report says of a run, counted in one pass: `add` each record and each failure, then read.

Memory does not grow with the number of pictures: labels, reasons and kept pictures have a maximum each, and what goes
beyond it is counted as a whole. Knows neither HTML nor files. Nothing raises.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from backend.bulk.report.numbers import Bin, NumberTally
from backend.bulk.report.reasons import Reason, ReasonReader
from backend.bulk.report.rows import FailureRow, Row, Value
from label_config.schema import LabelSchema, NumberField, TextField

MAX_LOWEST = 60
MAX_LABELS = 20_000
MAX_REASONS = 500
MAX_KEY_CHARS = 300
"""Labels and sentences longer than this are told apart by their beginning only."""
MAX_FAILURES_KEPT = 100
"""Of each reason."""
MAX_VERSIONS = 20
NUM_CONFIDENCE_BINS = 20

Key = TypeVar("Key", bound=Hashable)


class Counts(Generic[Key]):
    """How often each key came; `num_beyond` counts keys that came after there were `max_keys` others."""

    def __init__(self, max_keys: int) -> None:
        self._max_keys = max_keys
        self.by_key: Counter[Key] = Counter()
        self.num_beyond = 0

    def add(self, key: Key) -> None:
        if key in self.by_key or len(self.by_key) < self._max_keys:
            self.by_key[key] += 1
        else:
            self.num_beyond += 1


class ShareTally:
    """Shares (0..1) in `NUM_CONFIDENCE_BINS` bins of equal width, the last with 1.0 in it."""

    def __init__(self) -> None:
        self._counts = [0] * NUM_CONFIDENCE_BINS
        self._sum = 0.0
        self.num = 0

    @property
    def mean(self) -> float:
        return self._sum / self.num if self.num else 0.0

    def add(self, share: float) -> None:
        # Records have four decimals: rounding first keeps 0.15 out of the bin below it.
        number = math.floor(round(share * NUM_CONFIDENCE_BINS, 6))
        self._counts[min(number, NUM_CONFIDENCE_BINS - 1)] += 1
        self._sum += share
        self.num += 1

    def bins(self) -> list[Bin]:
        n = NUM_CONFIDENCE_BINS
        return [Bin(i / n, (i + 1) / n, count) for i, count in enumerate(self._counts)]


@dataclass(slots=True)
class LabelTally:
    """A field with labels. `num_empty`: pictures it was left empty for. A label counts once a picture."""

    labels: Counts[Value] = field(default_factory=lambda: Counts[Value](MAX_LABELS))
    num_empty: int = 0

    def add(self, values: tuple[Value, ...]) -> None:
        for value in dict.fromkeys(v[:MAX_KEY_CHARS] if isinstance(v, str) else v for v in values):
            self.labels.add(value)
        self.num_empty += not values


@dataclass(slots=True)
class FailureTally:
    num: int = 0
    first: list[FailureRow] = field(default_factory=list)


class Tally:
    """`num_unreadable` counts lines that are no record, `num_withheld` those of the blind audit, of which a report says
    nothing else. `scores`, `confidence`, `numbers` and `text_chars` are
    of the records that have any."""

    def __init__(self, schema: LabelSchema) -> None:
        self._read_reason = ReasonReader(schema)
        self.num_done = 0
        self.num_withheld = 0
        self.num_review = 0
        self.num_failed = 0
        self.num_unreadable = 0
        self.labels: dict[str, LabelTally] = {}
        self.numbers: dict[str, NumberTally] = {}
        self.text_chars: dict[str, NumberTally] = {}
        self.confidence: dict[str, ShareTally] = {}
        self.scores = ShareTally()
        self.reasons: Counts[Reason] = Counts(MAX_REASONS)
        self.failures: dict[str, FailureTally] = {}
        self.versions: Counts[str] = Counts(MAX_VERSIONS)
        self._lowest: list[tuple[float, bool, int, Row]] = []
        for found in schema.fields:
            match found:
                case TextField():
                    self.text_chars[found.name] = NumberTally()
                    continue
                case NumberField():
                    self.numbers[found.name] = NumberTally()
                case _:
                    self.labels[found.name] = LabelTally()
            self.confidence[found.name] = ShareTally()

    @property
    def lowest(self) -> list[Row]:
        """The pictures with the lowest scores, lowest first; those without one follow, those for review before."""
        return [row for *_, row in sorted(self._lowest, reverse=True)]

    def add(self, row: Row) -> None:
        if row.withheld:
            self.num_withheld += 1
            return
        self.num_done += 1
        self.num_review += row.needs_review
        self.versions.add(row.model_version[:MAX_KEY_CHARS])
        for name, labels in self.labels.items():
            labels.add(row.values.get(name, ()))
        for name, numbers in self.numbers.items():
            for number in row.values.get(name, ()):
                if not isinstance(number, str):
                    numbers.add(number)
        for name, chars in self.text_chars.items():
            if length := sum(len(text) for text in row.values.get(name, ()) if isinstance(text, str)):
                chars.add(length)
        for name, share in row.confidence.items():
            if name in self.confidence:
                self.confidence[name].add(share)
        if row.score is not None:
            self.scores.add(row.score)
        for reason in {self._read_reason(text[:MAX_KEY_CHARS]).group for text in row.reasons}:
            self.reasons.add(reason)
        self._keep_if_low(row)

    def add_failure(self, failure: FailureRow) -> None:
        self.num_failed += 1
        reason = failure.reason[:MAX_KEY_CHARS]
        known = reason in self.failures or len(self.failures) < MAX_REASONS
        of_reason = self.failures.setdefault(reason if known else "", FailureTally())
        of_reason.num += 1
        if len(of_reason.first) < MAX_FAILURES_KEPT:
            of_reason.first.append(failure)

    def _keep_if_low(self, row: Row) -> None:
        """A heap whose root is the one to give up: the highest score, then the latest line."""
        score = math.inf if row.score is None else row.score
        entry = (-score, row.needs_review, -self.num_done, row)
        if len(self._lowest) < MAX_LOWEST:
            heapq.heappush(self._lowest, entry)
        elif entry > self._lowest[0]:
            heapq.heapreplace(self._lowest, entry)
