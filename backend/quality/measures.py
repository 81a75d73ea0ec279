"""What is known of the answers of one project after people labelled some of the tasks: `add` each, then read.

Memory: two numbers a task and field; of confusions and of wrong tasks there is a maximum. Nothing raises.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from backend.quality.compare import Compared, compared, told
from backend.quality.intervals import Share, share_of
from label_config.answer import Answer, FieldValue
from label_config.conditions import shown_fields
from label_config.schema import Field, LabelSchema, TextField

NUM_BINS = 10
MAX_CONFUSIONS = 2_000
MAX_EXAMPLES = 5
MAX_WRONG = 12
NO_SCORE = -1.0
"""Below every threshold."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """`answered` was corrected to `right` in `num` tasks; "" is no label. `examples` are the names of the first."""

    answered: str
    right: str
    num: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """`counts[i][j]`: tasks answered with `labels[i]` of which `labels[j]` is right; "" is no label."""

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class WrongLabel:
    """In the field of that name, as people read it."""

    field: str
    answered: str
    right: str
    confidence: float | None


@dataclass(frozen=True, slots=True)
class WrongTask:
    """`score`: of its answer, and so how far up the threshold it stood."""

    name: str
    score: float
    labels: tuple[WrongLabel, ...]


@dataclass(frozen=True, slots=True)
class Bin:
    """Of the answers with a confidence in `low`..`high`: how many, their mean confidence, and how many were right."""

    low: float
    high: float
    num: int
    mean_confidence: float
    right: Share


@dataclass(slots=True)
class FieldTally:
    """One field. `scored`: confidence and whether it was right, of each answer that has a confidence."""

    of: Field
    num: int = 0
    num_right: int = 0
    scored: list[tuple[float, bool]] = field(default_factory=list)
    levels: list[list[int]] = field(default_factory=list)
    overlap: list[int] = field(default_factory=lambda: [0, 0, 0])
    num_errors: int = 0
    sum_errors: float = 0.0
    sum_kept: float = 0.0
    num_beyond: int = 0
    _confused: Counter[tuple[str, str]] = field(default_factory=Counter)
    _examples: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    _right: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[float, str, WrongLabel]] = field(default_factory=list)
    """A heap of the MAX_WRONG wrong ones in tasks of the highest score: score and name of the task, and the labels."""

    def add(self, found: Compared, confidence: float | None, name: str) -> None:
        self.num += 1
        self.num_right += found.is_right
        if confidence is not None:
            self.scored.append((confidence, found.is_right))
        for depth, is_right in enumerate(found.levels or ()):
            if depth == len(self.levels):
                self.levels.append([0, 0])
            self.levels[depth][0] += is_right
            self.levels[depth][1] += 1
        if found.overlap is not None:
            counts = (found.overlap.num_both, found.overlap.num_answer, found.overlap.num_truth)
            self.overlap = [total + count for total, count in zip(self.overlap, counts, strict=True)]
        if found.error is not None:
            self.num_errors += 1
            self.sum_errors += found.error
        self.sum_kept += found.kept or 0.0
        if found.pair is not None and found.is_right:
            self._right[found.pair[1]] += 1
        elif found.pair is not None:
            self._confuse(found.pair, name)

    def add_wrong(
        self, score: float, name: str, answered: FieldValue, right: FieldValue, confidence: float | None
    ) -> None:
        entry = (score, name, WrongLabel(self.of.name, told(answered), told(right), confidence))
        if len(self.wrong) < MAX_WRONG:
            heapq.heappush(self.wrong, entry)
        elif score > self.wrong[0][0]:
            heapq.heapreplace(self.wrong, entry)

    def _confuse(self, pair: tuple[str, str], name: str) -> None:
        if pair not in self._confused and len(self._confused) >= MAX_CONFUSIONS:
            self.num_beyond += 1
            return
        self._confused[pair] += 1
        examples = self._examples.setdefault(pair, [])
        if len(examples) < MAX_EXAMPLES:
            examples.append(name)

    @property
    def right(self) -> Share:
        return share_of(self.num_right, self.num)

    @property
    def right_by_level(self) -> tuple[Share, ...]:
        """Of a taxonomy: right down to the first level, the second, ...; deeper levels are of fewer tasks."""
        return tuple(share_of(*counts) for counts in self.levels)

    @property
    def precision(self) -> float | None:
        """Of labels (micro), or of a taxonomy's nodes with their ancestors (hP)."""
        return self.overlap[0] / self.overlap[1] if self.overlap[1] else None

    @property
    def recall(self) -> float | None:
        return self.overlap[0] / self.overlap[2] if self.overlap[2] else None

    @property
    def mean_error(self) -> float | None:
        return self.sum_errors / self.num_errors if self.num_errors else None

    @property
    def kept(self) -> float | None:
        """Of a text: the mean share of characters that people left as they were."""
        return self.sum_kept / self.num if self.num and isinstance(self.of, TextField) else None

    def matrix(self, most: int) -> Matrix | None:
        """Of the `most` labels that are confused most often; None where none is, or labels are not one each."""
        involved: Counter[str] = Counter()
        for (answered, right), num in self._confused.items():
            involved[answered] += num
            involved[right] += num
        labels = tuple(label for label, _ in involved.most_common(most))
        counts = [[self._right[a] if a == b else self._confused[a, b] for b in labels] for a in labels]
        return Matrix(labels, tuple(map(tuple, counts))) if labels else None

    def confusions(self, most: int) -> tuple[Confusion, ...]:
        return tuple(
            Confusion(*pair, num, tuple(self._examples[pair])) for pair, num in self._confused.most_common(most)
        )


class Measures:
    """`add` each task that people labelled.

    A field that people filled in no task says nothing of the answers, but that nobody was asked for it: it has no
    figures, and counts for no task.
    """

    def __init__(self, schema: LabelSchema) -> None:
        self._schema = schema
        self._fields = {found.name: FieldTally(found) for found in schema.fields}
        self._filled: set[str] = set()
        self._tasks: list[tuple[float | None, tuple[str, ...]]] = []
        """Score, and the fields with labels that are wrong. A text does not make a task wrong: it has no confidence."""

    def add(self, answer: Answer, truth: Answer, name: str) -> None:
        """`name`: how people find the task again."""
        self._filled |= truth.fields.keys()
        shown = shown_fields(self._schema, {name: right.value for name, right in truth.fields.items()})
        wrong = []
        for found in self._schema.fields:
            if found.name not in shown:  # nobody could correct it
                continue
            given, right = answer.fields.get(found.name), truth.fields.get(found.name)
            result = compared(found, given.value if given else None, right.value if right else None)
            confidence = given.confidence if given else None
            self._fields[found.name].add(result, confidence, name)
            if not result.is_right and not isinstance(found, TextField):
                wrong.append(found.name)
                values = (given.value if given else None, right.value if right else None)
                self._fields[found.name].add_wrong(answer.score or 0.0, name, *values, confidence)
        self._tasks.append((answer.score, tuple(wrong)))

    @property
    def num(self) -> int:
        return len(self._tasks)

    @property
    def fields(self) -> dict[str, FieldTally]:
        """Of those that people filled."""
        return {name: tally for name, tally in self._fields.items() if name in self._filled}

    @property
    def right(self) -> Share:
        """Tasks of which every label is right; of none where people filled no label in any: texts alone say nothing."""
        if not any(not isinstance(self._fields[name].of, TextField) for name in self.fields):
            return share_of(0, 0)
        return share_of(sum(self._is_right(wrong) for _, wrong in self._tasks), self.num)

    @property
    def scored(self) -> list[tuple[float, bool]]:
        """Score of each task, and whether all its labels are right. One without a score passes nowhere, and is one of
        all nevertheless."""
        return [(NO_SCORE if score is None else score, self._is_right(wrong)) for score, wrong in self._tasks]

    @property
    def wrong(self) -> tuple[WrongTask, ...]:
        """The MAX_WRONG tasks with the highest score of which a label is wrong, the surest first."""
        labels: dict[tuple[float, str], list[WrongLabel]] = {}
        for tally in self.fields.values():
            for score, name, label in tally.wrong:
                labels.setdefault((score, name), []).append(label)
        surest = sorted(labels, key=lambda task: (-task[0], task[1]))[:MAX_WRONG]
        return tuple(WrongTask(name, score, tuple(labels[score, name])) for score, name in surest)

    def _is_right(self, wrong: tuple[str, ...]) -> bool:
        return self._filled.isdisjoint(wrong)


def reliability(scored: Sequence[tuple[float, bool]]) -> tuple[Bin, ...]:
    """Answers in NUM_BINS bins by confidence; empty bins are left out."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for confidence, is_right in scored:
        # records have four decimals: rounding first keeps 0.3 out of the bin below it
        bins.setdefault(min(int(round(confidence * NUM_BINS, 6)), NUM_BINS - 1), []).append((confidence, is_right))
    return tuple(
        Bin(
            number / NUM_BINS,
            (number + 1) / NUM_BINS,
            len(inside),
            sum(confidence for confidence, _ in inside) / len(inside),
            share_of(sum(is_right for _, is_right in inside), len(inside)),
        )
        for number, inside in sorted(bins.items())
    )


def calibration_error(scored: Sequence[tuple[float, bool]]) -> float | None:
    """Expected calibration error: by how much confidence and share of right ones differ, weighted by the bins' size."""
    bins: Mapping[int, Bin] = dict(enumerate(reliability(scored)))
    if not bins:
        return None
    return sum(b.num * abs(b.mean_confidence - (b.right.share or 0.0)) for b in bins.values()) / len(scored)
