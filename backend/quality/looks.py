"""The threshold of a project, at which people look all the time: found only at looks that were planned beforehand.

Whoever looks after every label, and stops at the first look that lets something pass, breaks a promise that was made
for one look far more often than it says. So a project's threshold is found on its first 100 blind labels, then on its
first 200, 400 and so on. The first look may use half of `delta`, each one after it half of what is left: the promises
of all looks hold together, but for a chance of `delta` (Bonferroni), however often and long one looks. Between two
looks the last result stands. Where less than 5 % may be wrong, the first look is later: where something could pass.

Nothing is kept: what each look finds follows from the labels in the order in which they became known, each time anew.
Nothing raises.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, takewhile

from backend.quality.intervals import upper_bound
from backend.quality.threshold import MAX_MISSING, Step, Threshold, as_of, least_bound, of_step, search, steps

_FEWEST = 50


@dataclass(frozen=True, slots=True)
class PlannedLook:
    """At the first `num` labels, for a chance of `delta` that its promise is broken."""

    num: int
    delta: float


def planned_looks(target: float, delta: float) -> Iterator[PlannedLook]:
    """Without end; they depend on nothing that anybody has seen."""
    num, share = _FEWEST, delta / 2
    while upper_bound(0, num, share) > target:
        num *= 2
    while True:
        yield PlannedLook(num, share)
        num, share = 2 * num, share / 2


def first_check(target: float, delta: float) -> int:
    """How many to check blind where none was: of half of them something passes only where next to none is wrong."""
    return 2 * next(planned_looks(target, delta)).num


def threshold_at_looks(scored: Sequence[tuple[float, bool]], target: float, delta: float) -> Threshold:
    """What the last planned look found: of the first `num_all` of `scored`, which are in the order in which they became
    known. See `guaranteed_threshold` for the rest."""
    plan = planned_looks(target, delta)
    look = next(plan)
    seen, spent = scored[:0], look.delta
    while look.num <= len(scored):
        seen, spent = scored[: look.num], look.delta
        look = next(plan)
    tried = list(steps(seen, spent))
    found = search(tried, target, spent)
    step, missing = found or least_bound(tried), None
    if found is None and (promising := _promising(tried, len(seen), target, chain([look], plan))):
        likely, step = promising
        missing = likely.num - len(scored)
    of_look = of_step(step, found.threshold if found else None, len(seen), target, spent)
    return replace(of_look, delta=delta, num_missing=missing, next_look=look.num, num_labels=len(scored))


def _promising(
    tried: Sequence[Step], num_all: int, target: float, later: Iterable[PlannedLook]
) -> tuple[PlannedLook, Step] | None:
    """The first look at which something passes if as many are wrong then as now, and what of `tried` that is."""
    if not num_all:
        return None
    for look in takewhile(lambda look: look.num <= MAX_MISSING, later):
        if found := search(as_of(look.num, tried, num_all, look.delta), target, look.delta):
            return look, next(step for step in tried if step.threshold == found.threshold)
    return None
