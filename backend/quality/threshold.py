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
from dataclasses import dataclass, replace
from functools import lru_cache

from backend.quality.intervals import upper_bound

TARGET, DELTA = 0.05, 0.1
"""The wrong share that may pass, and the chance that more does: unless others are asked for."""
GRID = tuple(number / 100 for number in range(95, 4, -1))
"""Strictest first."""
MAX_MISSING = 100_000
_GROWTH = 1.05


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


def search(tried: Sequence[Step], target: float, delta: float) -> Step | None:
    """The last of `tried`, the strictest first, before the first that is too wrong; None where none may pass.

    It begins where so many scores are at or above a threshold that it could be passed, were all of them right: of how
    many there are it may know, of how many are right it may not.
    """
    enough = _enough(target, delta)
    found: Step | None = None
    for step in tried:
        if step.num < enough:
            continue
        if step.bound > target:
            break
        found = step
    return found


def guaranteed_threshold(scored: Sequence[tuple[float, bool]], target: float, delta: float) -> Threshold:
    """In one look. `scored`: score and whether it is right, of each labelled task. `target`: the wrong share that may
    pass."""
    tried = list(steps(scored, delta))
    if found := search(tried, target, delta):
        return of_step(found, found.threshold, len(scored), target, delta)
    total = _enough_in_all(tried, len(scored), target, delta)
    if total is None:
        return of_step(least_bound(tried), None, len(scored), target, delta)
    likely = search(as_of(total, tried, len(scored), delta), target, delta)
    step = next((step for step in tried if likely and step.threshold == likely.threshold), least_bound(tried))
    return replace(of_step(step, None, len(scored), target, delta), num_missing=total - len(scored))


def of_step(step: Step, threshold: float | None, num_all: int, target: float, delta: float) -> Threshold:
    return Threshold(target, delta, delta, threshold, step.num, step.num_wrong, num_all, step.bound)


def least_bound(tried: Sequence[Step]) -> Step:
    """The most promising one where no number of tasks is seen to do."""
    return min((step for step in tried if step.num), key=lambda step: step.bound, default=tried[-1])


def as_of(total: int, tried: Sequence[Step], num_all: int, delta: float) -> list[Step]:
    """What `tried` on `num_all` tasks would be on `total` of which the same shares are as sure, and as wrong."""
    found: list[Step] = []
    for before, step in zip([None, *tried], tried, strict=False):
        if found and before is not None and (before.num, before.num_wrong) == (step.num, step.num_wrong):
            continue  # what says the same is asked once
        num = step.num * total // num_all if num_all else total
        num_wrong = -(-step.num_wrong * total // num_all) if num_all else 0
        found.append(Step(step.threshold, num, num_wrong, upper_bound(num_wrong, num, delta)))
    return found


def _enough_in_all(tried: Sequence[Step], num_all: int, target: float, delta: float) -> int | None:
    """About the least number of tasks at which something passes if shares stay as they are."""
    low, high = num_all, max(num_all + 1, _enough(target, delta))
    while search(as_of(high, tried, num_all, delta), target, delta) is None:
        low, high = high, math.ceil(_GROWTH * high)
        if high > MAX_MISSING:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        passes = search(as_of(middle, tried, num_all, delta), target, delta) is not None
        low, high = (low, middle) if passes else (middle, high)
    return high


@lru_cache
def _enough(target: float, delta: float) -> int:
    """The least number of tasks that may pass if all of them are right; by doubling, halving."""
    low, high = 0, 1
    while upper_bound(0, high, delta) > target:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if upper_bound(0, middle, delta) <= target else (middle, high)
    return high
