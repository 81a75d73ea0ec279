"""Rules from confusions: which labels are taken for each other, and whether a rule in words makes answers better.

A rule is a sentence for the project's `extra_instructions`. Tasks that were checked blind are divided by a keyed hash:
from one half rules are proposed, on the other, *held out*, they are tried. Pre-filled tasks may propose and never
judge: people let more pass once they see an answer. A try compares the answers to the held-out tasks without the rule
and with it, and counts those that became right or wrong: where the rule makes nothing better, becoming right is no more
likely than becoming wrong (Q. McNemar's test, Psychometrika 12 (1947), in its exact form). Every try on the same tasks
is one more chance to be lucky, so the n-th must be surer: LEVEL / 2^n, which all tries together bring to LEVEL at most.
Nothing raises.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from backend.quality.measures import Confusion, Measures
from backend.quality.people import Labelled
from backend.quality.summary import FieldQuality
from backend.store.audit import chooses
from label_config.answer import Answer
from label_config.schema import LabelSchema

LEVEL = 0.05
"""However often rules are tried, the chance that one is called better which is not."""
HELD_OUT = 0.5
MIN_CONFUSED = 3
MIN_TOLD = 5
"""On the status page, where all tasks count: of these about MIN_CONFUSED are for proposing rules."""
MAX_CONFUSIONS = 1_000
_MAX_GROWTH = 50.0
"""More tasks than so many times those there are: nobody will check them for a rule."""

Outcome = Literal["better", "worse", "unclear"]


@dataclass(frozen=True, slots=True)
class Confused:
    """Two labels of a field, whole paths, in their order as texts. `num_blind`, `num_filled`: tasks of either kind in
    which one was answered and the other is right, `num_first` of them answered `first`. `examples`: some of them, those
    checked blind before the others."""

    field: str
    title: str
    first: str
    second: str
    num_blind: int
    num_filled: int
    num_first: int
    examples: tuple[str, ...] = ()

    @property
    def num(self) -> int:
        return self.num_blind + self.num_filled

    @property
    def names(self) -> tuple[str, str]:
        return short_names(self.first, self.second)


def short_names(first: str, second: str) -> tuple[str, str]:
    """The ends of two paths, where these differ."""
    ends = first.rpartition(" / ")[2], second.rpartition(" / ")[2]
    return ends if ends[0] != ends[1] else (first, second)


def is_held_out(key: bytes, project: str, name: str) -> bool:
    """Whether the task `name`, checked blind, is for trying rules and not for proposing them. Follows from the data
    folder's key, and is independent of what the blind audit chooses by it."""
    return chooses(key, f"rules of {project}", name, HELD_OUT)


def confused(schema: LabelSchema, tasks: Iterable[Labelled]) -> list[Confused]:
    """By `tasks`, pairs of labels that are confused in MIN_CONFUSED tasks or more: what was checked blind first, then
    the most frequent."""
    blind, filled = Measures(schema), Measures(schema)
    for task in tasks:
        (filled if task.saw_answer else blind).add(task.answer, task.truth, task.name)
    found = []
    for field in schema.fields:
        in_blind, in_filled = (
            both_ways(measures.fields[field.name].confusions(MAX_CONFUSIONS)) if field.name in measures.fields else {}
            for measures in (blind, filled)
        )
        for pair in dict.fromkeys((*in_blind, *in_filled)):
            one, other = (kind.get(pair, (0, 0, ())) for kind in (in_blind, in_filled))
            counts = (one[0], other[0], one[1] + other[1])
            found.append(Confused(field.name, field.title or field.name, *pair, *counts, (*one[2], *other[2])))
    often = [pair for pair in found if pair.num >= MIN_CONFUSED]
    return sorted(often, key=lambda pair: (-pair.num_blind, -pair.num_filled, pair.field, pair.first, pair.second))


def confused_most(fields: Iterable[FieldQuality]) -> tuple[str, str, int] | None:
    """The two labels that are confused most often, and in how many tasks; None where no two are in MIN_TOLD."""
    found = [(*pair, counts[0]) for field in fields for pair, counts in both_ways(field.confusions).items()]
    most = max(found, key=lambda one: one[2], default=None)
    return most if most is not None and most[2] >= MIN_TOLD else None


def both_ways(confusions: Iterable[Confusion]) -> dict[tuple[str, str], tuple[int, int, tuple[str, ...]]]:
    """Both directions of a confusion are one pair, in the order of texts: in how many tasks, in how many of them the
    pair's first label was answered, and examples. What was left empty is no label."""
    found: dict[tuple[str, str], tuple[int, int, tuple[str, ...]]] = {}
    for one in confusions:
        if one.answered and one.right:
            pair = (min(one.answered, one.right), max(one.answered, one.right))
            num, num_first, examples = found.get(pair, (0, 0, ()))
            was_first = one.num if one.answered == pair[0] else 0
            found[pair] = (num + one.num, num_first + was_first, (*examples, *one.examples))
    return found


@dataclass(frozen=True, slots=True)
class Tried:
    """A rule on `num` held-out tasks that were answered without it and with it, of which `num_wrong` were wrong without
    it. `number`: of the try on these tasks, from 1."""

    num: int
    num_wrong: int
    num_better: int
    num_worse: int
    number: int

    @property
    def limit(self) -> float:
        return limit_of(self.number)

    @property
    def p(self) -> float:
        """The chance that so many or more of those that changed became right, if either were as likely."""
        return _at_least(self.num_better, self.num_better + self.num_worse)

    @property
    def outcome(self) -> Outcome:
        if self.p <= self.limit:
            return "better"
        return "worse" if _at_least(self.num_worse, self.num_better + self.num_worse) <= self.limit else "unclear"

    @property
    def num_missing(self) -> int | None:
        """About so many more blind tasks, of which HELD_OUT are for tries, would tell at the next try, if shares stay
        as they are. None: it is told, or the rule is not seen to help, or so little that no number of tasks people
        check would."""
        if self.outcome != "unclear" or self.num_better <= self.num_worse:
            return None
        limit, times = limit_of(self.number + 1), 1.0
        while times <= _MAX_GROWTH:
            better, worse = math.floor(self.num_better * times), math.ceil(self.num_worse * times)
            if _at_least(better, better + worse) <= limit:
                return max(1, math.ceil(self.num * (times - 1) / HELD_OUT))
            times *= 1.05
        return None


def limit_of(number: int) -> float:
    """What `Tried.p` may be at most at the try of that number."""
    return LEVEL / 2.0**number


def wrong_needed(number: int) -> int:
    """Of fewer wrong ones among the held-out tasks even a rule that corrects all could not be told from luck."""
    return math.ceil(-math.log2(limit_of(number)))


def compared(schema: LabelSchema, tasks: Sequence[Labelled], answers: Sequence[Answer | None], number: int) -> Tried:
    """`answers`: with the rule, one a task; None: none could be read, which is wrong. A task is right if every label
    that people filled is, as everywhere."""
    before, after = Measures(schema), Measures(schema)
    for task, answer in zip(tasks, answers, strict=True):
        before.add(task.answer, task.truth, task.name)
        after.add(answer or Answer({}), task.truth, task.name)
    results = zip(before.scored, after.scored, answers, strict=True)
    pairs = [(was, now and answer is not None) for (_, was), (_, now), answer in results]
    num_wrong = sum(not was for was, _ in pairs)
    return Tried(len(pairs), num_wrong, pairs.count((False, True)), pairs.count((True, False)), number)


def _at_least(num: int, num_all: int) -> float:
    """The chance of `num` heads or more in `num_all` throws of a coin."""
    from scipy.stats import binomtest  # here: it takes a second, which no other command should pay

    return float(binomtest(num, num_all, 0.5, alternative="greater").pvalue) if num_all else 1.0
