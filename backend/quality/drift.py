"""Are the pictures of now still like the ones that were checked? If not, no guarantee that was found on them holds.

What is answered after the check is taken in blocks of BLOCK, in order, and each is compared with the checked tasks: the
scores by the Kolmogorov-Smirnov test, the labels of each field by chi-squared (seldom ones together). No truth is
needed for it. However long one watches, the chance of any false alarm is at most FALSE_ALARM: block k may use
6 / (pi k)^2 of it, which adds up to all of it, shared by its tests. That holds for one set of checked tasks. A
project's grows, and each further one would compare all blocks anew: there the set is that of the last planned look,
which may use the same share of FALSE_ALARM as of `delta` (`quality.looks`). Nothing raises.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import dropwhile, islice

from backend.quality.compare import told
from label_config.answer import Answer
from label_config.schema import LabelSchema, TextField

BLOCK = 200
MIN_CHECKED = 50
FALSE_ALARM = 0.05
_MIN_EXPECTED = 5
"""Of a label in the smaller of both: below it chi-squared is too often too large."""


@dataclass(frozen=True, slots=True)
class Look:
    """What of the answer to task `name` can change: its score, and its label by field. `at`: when it was given, in
    seconds since the epoch; 0.0 if nobody knows."""

    name: str
    score: float | None
    labels: Mapping[str, str]
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Drift:
    """The first block that is unlike the checked tasks began at `since` with the task `name`, after `num_before` tasks
    that are like them; `fields` whose labels differ, "" for the score."""

    since: float
    name: str
    num_before: int
    fields: tuple[str, ...]


def look_of(schema: LabelSchema, name: str, answer: Answer, at: float = 0.0) -> Look:
    labels = {
        field.name: told(answer.fields[field.name].value) if field.name in answer.fields else ""
        for field in schema.fields
        if not isinstance(field, TextField)
    }
    return Look(name, answer.score, labels, at)


def drift(checked: Sequence[Look], answered: Iterable[Look], false_alarm: float = FALSE_ALARM) -> Drift | None:
    """`answered`: in the order of time; the tasks that come after the first checked one are looked at, until a block
    differs, with a chance of `false_alarm` where nothing has changed. None where none does, or too few were checked."""
    if len(checked) < MIN_CHECKED:
        return None
    names = {look.name for look in checked}
    since_the_check = dropwhile(lambda look: look.name not in names, answered)
    later = (look for look in since_the_check if look.name not in names)
    for number, block in enumerate(_blocks(later)):
        tests = ["", *checked[0].labels]
        allowed = false_alarm * 6 / (math.pi * (number + 1)) ** 2 / len(tests)
        if unlike := tuple(name for name in tests if _chance(checked, block, name) < allowed):
            return Drift(block[0].at, block[0].name, number * BLOCK, unlike)
    return None


def _blocks(looks: Iterator[Look]) -> Iterator[list[Look]]:
    """Full ones: the rest is looked at when it is one."""
    while len(block := list(islice(looks, BLOCK))) == BLOCK:
        yield block


def _chance(checked: Sequence[Look], block: Sequence[Look], name: str) -> float:
    """Of a difference as large as this, where nothing has changed."""
    if name:
        return _chance_of_labels(*(Counter(look.labels[name] for look in looks) for looks in (checked, block)))
    from scipy.stats import ks_2samp  # here: it takes a second, which no other command should pay

    before, now = ([look.score for look in looks if look.score is not None] for looks in (checked, block))
    return float(ks_2samp(before, now, method="asymp").pvalue) if before and now else 1.0


def _chance_of_labels(before: Counter[str], now: Counter[str]) -> float:
    from scipy.stats import chi2_contingency

    smaller = min(before.total(), now.total()) / (before.total() + now.total())
    often = [label for label, num in (before + now).items() if num * smaller >= _MIN_EXPECTED]
    columns = [[counts[label] for counts in (before, now)] for label in often]
    rest = [counts.total() - sum(counts[label] for label in often) for counts in (before, now)]
    if sum(rest) * smaller >= _MIN_EXPECTED:
        columns.append(rest)
    return float(chi2_contingency(columns, correction=False).pvalue) if len(columns) > 1 else 1.0
