"""From which score on answers may pass unseen, so that at most a given share of them is wrong: with a guarantee.

Learn then Test (Angelopoulos, Bates, Candes, Jordan and Lei, arXiv 2110.01052) by fixed-sequence testing: thresholds
are tried from the strictest down in steps that were fixed before anybody looked, and the first whose upper bound on
the wrong share exceeds the target ends the search. Then the threshold found breaks its promise with a probability of
at most `delta`, whatever the scores mean. That a threshold merely looked good on the sample promises nothing: it is
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
"""Strictest first. 0.95, not higher: where few scores are that high, the search could not begin."""
MAX_MISSING = 100_000


@dataclass(frozen=True, slots=True)
class Threshold:
    """`threshold` is None where nothing may pass yet; `num`, `num_wrong` and `bound` are then those of the strictest.

    `num` of `num_all` scores are at or above it, `num_wrong` of those wrong, at most a share of `bound` in truth.
    `num_missing`: about so many more labelled tasks and the strictest would do, if the wrong share there stays so; None
    where a threshold was found, or where no number of tasks would help.
    """

    target: float
    delta: float
    threshold: float | None
    num: int
    num_wrong: int
    num_all: int
    bound: float
    num_missing: int | None = None


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
    """`scored`: score and whether it is right, of each labelled task. `target`: the wrong share that may pass."""
    found: Step | None = None
    for step in steps(scored, delta):
        if step.bound > target:
            break
        found = step
    if found is None:
        return _none_yet(scored, target, delta)
    return Threshold(target, delta, found.threshold, found.num, found.num_wrong, len(scored), found.bound)


def _none_yet(scored: Sequence[tuple[float, bool]], target: float, delta: float) -> Threshold:
    strictest = [right for score, right in scored if score >= GRID[0]]
    num, num_wrong = len(strictest), strictest.count(False)
    missing = _missing(num, num_wrong, len(scored), target, delta)
    return Threshold(target, delta, None, num, num_wrong, len(scored), upper_bound(num_wrong, num, delta), missing)


def _missing(num: int, num_wrong: int, num_all: int, target: float, delta: float) -> int | None:
    """How many more tasks it takes until enough are at the strictest threshold."""
    rate = num_wrong / num if num else 0.0
    if rate >= target:
        return None
    enough = _enough(rate, target, delta)
    share_above = num / num_all if num else None
    if enough is None or (num_all and share_above is None):
        return None
    return math.ceil((enough - num) / (share_above or 1.0))


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
