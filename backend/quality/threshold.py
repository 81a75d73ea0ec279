"""From which score on answers may pass unseen, so that at most a given share of them is wrong: with a guarantee.

Learn then Test (Angelopoulos, Bates, Candes, Jordan and Lei, arXiv 2110.01052) by fixed-sequence testing: thresholds
are tried from the strictest down in steps that were fixed before anybody looked, and the first whose upper bound on
the wrong share exceeds the target ends the search. Then the threshold found breaks its promise with a probability of
at most `delta`. It begins at the first that enough tasks reach for any promise, so that a model that is never very sure
can pass, too; where high scores are no worse than lower ones that changes nothing in the promise, else `delta` could
come to twice as much at worst. That a threshold merely looked good on the sample promises nothing: it is
over the target in about half of all projects (`benchmarks.quality`). MAPIE's risk control would do the same for one
field; it brings scikit-learn, for what are thirty lines here.

It holds for tasks like the sample's: chosen by chance, and labelled by people who did not see the answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from backend.quality.intervals import upper_bound

GRID = tuple(number / 100 for number in range(95, 4, -1))
"""Strictest first."""
MAX_MISSING = 100_000


@dataclass(frozen=True, slots=True)
class Threshold:
    """`threshold` is None where nothing may pass yet; `num`, `num_wrong` and `bound` are then of the most promising.

    `num` of `num_all` scores are at or above it, `num_wrong` of those wrong, at most a share of `bound` in truth.
    `num_missing`: about so many more labelled tasks and that one would do, if the wrong share there stays so; None
    where a threshold was found, or where no number of tasks would do.

    `spent`: the chance that this look's promise is broken: all of `delta` where it is the only look, a share of it
    where it is one of several that were planned (`quality.looks`). Of those, `next_look` is the number of labels of the
    next, and `num_labels` how many there are now.
    """

    target: float
    delta: float
    spent: float
    threshold: float | None
    num: int
    num_wrong: int
    num_all: int
    bound: float
    num_missing: int | None = None
    next_look: int | None = None
    num_labels: int = 0

    @property
    def is_too_wrong(self) -> bool:
        """Whether more than `target` of the most promising are wrong, but for a chance of `spent`. Fewer than would do,
        were they all right, say nothing either way."""
        at_least = 1 - upper_bound(self.num - self.num_wrong, self.num, self.spent)
        could_pass = upper_bound(0, self.num, self.spent) <= self.target
        return self.threshold is None and could_pass and at_least > self.target


@dataclass(frozen=True, slots=True)
class Step:
    """`num` scores are at or above `threshold`, `num_wrong` of those wrong; in truth at most a share of `bound`."""

    threshold: float
    num: int
    num_wrong: int
    bound: float


def steps(scored: Sequence[tuple[float, bool]], delta: float) -> Iterator[Step]:
    """What each threshold of the GRID would let pass, the strictest first.

    Each bound holds by itself, for a threshold that was chosen before looking; only the search below may choose.
    """
    ordered = sorted(scored, reverse=True)
    num = num_wrong = 0
    for threshold in GRID:
        while num < len(ordered) and ordered[num][0] >= threshold:
            num_wrong += not ordered[num][1]
            num += 1
        yield Step(threshold, num, num_wrong, upper_bound(num_wrong, num, delta))


def guaranteed_threshold(scored: Sequence[tuple[float, bool]], target: float, delta: float) -> Threshold:
    """In one look. `scored`: score and whether it is right, of each labelled task. `target`: the wrong share that may
    pass.

    The search begins where so many scores are at or above a threshold that it could be passed, were all of them right:
    of how many there are it may know, of how many are right it may not.
    """
    tried = list(steps(scored, delta))
    enough = _enough(0.0, target, delta) or MAX_MISSING
    found: Step | None = None
    for step in tried:
        if step.num >= enough and step.bound > target:
            break
        found = step if step.num >= enough else None
    if found is None:
        return _none_yet(tried, len(scored), target, delta)
    return Threshold(target, delta, delta, found.threshold, found.num, found.num_wrong, len(scored), found.bound)


def _none_yet(tried: Sequence[Step], num_all: int, target: float, delta: float) -> Threshold:
    """With the figures of the threshold that the fewest more tasks would do for, else of that with the least bound."""
    reached = [step for step in tried if step.num] or tried[-1:]
    missing = {step: found for step in reached if (found := _missing(step, num_all, target, delta)) is not None}
    best = min(missing, key=missing.__getitem__, default=min(reached, key=lambda step: step.bound))
    return Threshold(target, delta, delta, None, best.num, best.num_wrong, num_all, best.bound, missing.get(best))


def _missing(step: Step, num_all: int, target: float, delta: float) -> int | None:
    """How many more tasks it takes until enough are at this threshold, if the wrong share there stays so."""
    rate = step.num_wrong / step.num if step.num else 0.0
    enough = _enough(rate, target, delta) if rate < target else None
    if enough is None:
        return None
    return max(1, math.ceil((enough - step.num) / (step.num / num_all if step.num else 1.0)))


def _enough(rate: float, target: float, delta: float) -> int | None:
    """The least number of tasks at which a wrong share of `rate` has a bound within `target`; by doubling, halving."""
    low, high = 0, 1
    while upper_bound(math.ceil(rate * high), high, delta) > target:
        low, high = high, 2 * high
        if high > MAX_MISSING:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if upper_bound(math.ceil(rate * middle), middle, delta) <= target else (middle, high)
    return high
