"""Is the promise of `prelabel quality` kept: `python -m benchmarks.quality [--json FILE]`.

The built-in model answers Fashion-MNIST's 10,000 test pictures once, as in `benchmarks.garments`; that is the whole of
a project, whose true shares are known. Then many samples of it are labelled "blind", and what each would have led to is
compared with the whole. Parts: the guaranteed threshold, in one look and at planned ones, beside the one that merely
looks good on the sample; what looking after every label does to the promise (`benchmarks.quality_looks`); the
intervals of the accuracy; confidences before and after calibration; the alarm for pictures that are not like the
checked ones; what is claimed of all of these in one table (`benchmarks.quality_claims`); how often a rule in words is
adopted that helps, and one that does not (`benchmarks.quality_rules`); and what reading and reporting on a large
project cost.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from backend.quality.intervals import share_of
from backend.quality.looks import threshold_at_looks
from backend.quality.threshold import DELTA, GRID, TARGET, guaranteed_threshold
from benchmarks import simulated
from benchmarks.pictures import NUM
from benchmarks.quality_claims import calibration, claims, drift_alarm
from benchmarks.quality_looks import looks
from benchmarks.quality_rules import rules
from benchmarks.report import Figure, Measure, Part, measure_parts, use_threads

SAMPLES = (100, 200, 400, 1_000)
NUM_PROJECTS = 300

Scored = Sequence[tuple[float, bool]]


@cache
def answered(num: int) -> tuple[tuple[float, bool], ...]:
    """Score, and whether category, style, season and scene are all right, of the first `num` test pictures."""
    answers = simulated.answered(num)
    return tuple((answer.score or 0.0, simulated.is_right(number, answer)) for number, answer in enumerate(answers))


def looks_good(sample: Scored, target: float, delta: float) -> float | None:
    """The lowest threshold whose wrong share on the sample is within the target: no promise."""
    best = None
    for threshold in GRID:
        passed = [right for score, right in sample if score >= threshold]
        if passed and passed.count(False) <= target * len(passed):
            best = threshold
    return best


def guaranteed(sample: Scored, target: float, delta: float) -> float | None:
    return guaranteed_threshold(sample, target, delta).threshold


def at_planned_looks(sample: Scored, target: float, delta: float) -> float | None:
    return threshold_at_looks(sample, target, delta).threshold


def thresholds(folder: Path, small: bool) -> Part:
    """How often each rule lets more wrong ones pass than it says, and how much it lets pass."""
    whole, num_projects = answered(200 if small else NUM), 5 if small else NUM_PROJECTS
    chance = random.Random(1)
    figures = [Figure("may pass if all were known", _passed(whole, looks_good(whole, TARGET, DELTA)), "share")]
    rules: dict[str, Callable[[Scored, float, float], float | None]] = {
        "looks good on the sample": looks_good,
        "guaranteed": guaranteed,
        "guaranteed at every look": at_planned_looks,
    }
    for num in SAMPLES:
        samples = [chance.sample(whole, min(num, len(whole) // 2)) for _ in range(num_projects)]
        for name, rule in rules.items():
            found = [rule(sample, TARGET, DELTA) for sample in samples]
            over = sum(_wrong(whole, threshold) > TARGET for threshold in found) / num_projects
            passed = sum(_passed(whole, threshold) for threshold in found) / num_projects
            figures.append(Figure(f"{num:,} blind, {name}: over the target", over, "share"))
            figures.append(Figure(f"{num:,} blind, {name}: may pass", passed, "share"))
    return Part(f"{num_projects} projects, at most {TARGET:.0%} wrong, {1 - DELTA:.0%} sure", figures)


def intervals(folder: Path, small: bool) -> Part:
    """How often the true share lies in the interval of a sample."""
    whole, num_projects = answered(200 if small else NUM), 20 if small else NUM_PROJECTS
    true = sum(right for _, right in whole) / len(whole)
    chance = random.Random(2)
    figures = [Figure("all labels right", true, "share")]
    for num in SAMPLES:
        inside = 0
        for _ in range(num_projects):
            sample = chance.sample(whole, min(num, len(whole) // 2))
            share = share_of(sum(right for _, right in sample), len(sample))
            inside += share.low <= true <= share.high
        figures.append(Figure(f"{num:,} blind: the interval holds it", inside / num_projects, "share"))
    return Part(f"{num_projects} projects, intervals at 95%", figures)


def report_time(folder: Path, small: bool) -> Part:
    """A threshold over very many tasks."""
    num = 5_000 if small else 50_000
    chance = random.Random(3)
    scored = [(score, chance.random() < score) for score in (chance.random() for _ in range(num))]
    started = time.perf_counter()
    guaranteed_threshold(scored, TARGET, DELTA)
    return Part(f"{num:,} tasks", [Figure("a threshold", time.perf_counter() - started, "s")])


def project(folder: Path, small: bool) -> Part:
    """Reading a project's annotations into the store, and the report on them."""
    num = 1_000 if small else 50_000
    command = [sys.executable, "-m", "benchmarks.quality_project", str(num), str(folder)]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    told = json.loads(ended.stdout)
    figures = [
        Figure("reading all", told["reading all"], "s"),
        Figure("reading what changed since", told["reading what changed since"], "s"),
        Figure("the report", told["the report"], "s"),
        Figure("the report: CPU time", told["the report: CPU time"], "s", 60.0),
        Figure("peak memory", told["peak memory"], "bytes", 500e6),
        Figure("the store's file", told["file"], "bytes"),
        Figure("blind tasks", told["blind tasks"]),
        Figure("right, blind", told["right, blind"], "share"),
        Figure("unchanged, pre-filled", told["unchanged, pre-filled"], "share"),
    ]
    return Part(f"a project with {num:,} annotations, Label Studio made up", figures)


def _wrong(whole: Scored, threshold: float | None) -> float:
    """Of what passes."""
    passed = [right for score, right in whole if threshold is not None and score >= threshold]
    return passed.count(False) / len(passed) if passed else 0.0


def _passed(whole: Scored, threshold: float | None) -> float:
    return sum(threshold is not None and score >= threshold for score, _ in whole) / len(whole)


PARTS: dict[str, Measure] = {
    "claims": claims,
    "thresholds": thresholds,
    "looks": looks,
    "intervals": intervals,
    "calibration": calibration,
    "drift": drift_alarm,
    "rules": rules,
    "time": report_time,
    "project": project,
}


def main(arguments: Sequence[str] | None = None) -> int:
    use_threads(1)
    return measure_parts(__doc__, PARTS, arguments)


if __name__ == "__main__":
    sys.exit(main())
