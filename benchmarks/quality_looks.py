"""Who looks at a project after every label: how often its promise is broken. A part of `benchmarks.quality`.

In projects of which a little more than the target is wrong, whatever their scores, anything that passes breaks it.
Between two planned looks the result stands (tests/backend/quality/test_looks.py), so there it need not be looked for.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import accumulate, takewhile
from pathlib import Path

from backend.quality.intervals import upper_bound
from backend.quality.looks import planned_looks, threshold_at_looks
from backend.quality.threshold import DELTA, TARGET
from benchmarks.report import Figure, Part

WRONG = 0.051
NUM_LABELS, NUM_PROJECTS = 1_000, 2_000

Scored = Sequence[tuple[float, bool]]


def looks(folder: Path, small: bool) -> Part:
    num_projects = 20 if small else NUM_PROJECTS
    chance = random.Random(9)
    scores: dict[str, Callable[[], float]] = {
        "scores all the same": lambda: 0.9,
        "scores that say nothing": chance.random,
    }
    figures = []
    for name, score in scores.items():
        projects = [_project(chance, score) for _ in range(num_projects)]
        broken = sum(any(at is not None for at in found_at_looks(labels)) for labels in projects)
        limit = None if small else DELTA
        figures.append(Figure(f"{name}, planned looks: broken", broken / num_projects, "share", limit))
    same = [_project(chance, lambda: 0.9) for _ in range(num_projects)]
    for num in (400, NUM_LABELS):
        broken = sum(_passed_once(right for _, right in labels[:num]) for labels in same)
        figures.append(Figure(f"one look's promise, looked at up to {num:,}: broken", broken / num_projects, "share"))
    about = f"{num_projects} projects with {WRONG:.1%} wrong, looked at after every label up to {NUM_LABELS:,}"
    return Part(about, figures)


def found_at_looks(labels: Scored) -> list[float | None]:
    """What a project's threshold is at any time."""
    planned = takewhile(lambda look: look.num <= len(labels), planned_looks(TARGET, DELTA))
    return [threshold_at_looks(labels[: look.num], TARGET, DELTA).threshold for look in planned]


def _project(chance: random.Random, score: Callable[[], float]) -> list[tuple[float, bool]]:
    return [(score(), chance.random() >= WRONG) for _ in range(NUM_LABELS)]


def _passed_once(rights: Iterable[bool]) -> bool:
    """Whether all of the first labels could have passed at any time, by what one look may."""
    return any(_passes(wrong, num) for num, wrong in enumerate(accumulate(not right for right in rights), 1))


@cache
def _passes(num_wrong: int, num: int) -> bool:
    return upper_bound(num_wrong, num, DELTA) <= TARGET
