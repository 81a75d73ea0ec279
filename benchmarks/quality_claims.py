"""What is claimed of the quality loop, each claim measured: parts of `benchmarks.quality`.

A project here is a sample of the 10,000 answered test pictures, so that what is true of the whole is known.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from backend.quality.calibration import fitted_temperature
from backend.quality.drift import BLOCK, FALSE_ALARM, Look, drift, look_of
from backend.quality.measures import calibration_error
from backend.quality.summary import quality_of
from backend.quality.threshold import DELTA, TARGET, guaranteed_threshold
from benchmarks import simulated
from benchmarks.pictures import FIELDS, NUM
from benchmarks.quality_looks import NUM_LABELS, found_at_looks
from benchmarks.report import Figure, Part
from label_config.answer import Answer
from label_config.rating import calibrated, with_calibration

NUM_PROJECTS = 200
NUM_BLIND, NUM_FILLED = 200, 400
NUM_BLOCKS = 5
NUM_INVERTED = 1_000
CALIBRATED = ("style", "season", "scene")
"""Fields of which the built-in model is far too sure: they follow from the category it has just said."""


def claims(folder: Path, small: bool) -> Part:
    """The four of docs/quality.md."""
    answers, num_projects = _answers(small), 3 if small else NUM_PROJECTS
    true = sum(simulated.is_right(number, answer) for number, answer in enumerate(answers)) / len(answers)
    chance = random.Random(4)
    outside = lower = broken = ever = 0
    num_labels = 400 if small else NUM_LABELS
    for _ in range(num_projects):
        people = simulated.people(chance, answers, NUM_BLIND, NUM_FILLED)
        found = quality_of(simulated.schema(), people, {}, target=TARGET, delta=DELTA)
        outside += not found.blind.low <= true <= found.blind.high
        lower += (found.filled.share or 0.0) <= true
        broken += _wrong(answers, found.threshold.threshold) > TARGET
        chosen = chance.sample(range(len(answers)), num_labels)
        labels = [(answers[number].score or 0.0, simulated.is_right(number, answers[number])) for number in chosen]
        ever += any(_wrong(answers, at) > TARGET for at in found_at_looks(labels))
    errors = [_errors(answers, name, num_projects) for name in CALIBRATED]
    missed, quiet = _alarms(small, num_projects)
    figures = [
        Figure("all labels right, in truth", true, "share"),
        Figure("1. the truth is outside the blind check's interval", outside / num_projects, "share", 0.08),
        Figure("1. acceptance reads no higher than the truth", lower / num_projects, "share", 0.08),
        Figure("2. the guarantee is broken, in one look", broken / num_projects, "share", DELTA),
        Figure("2. the same, looked at after every label", ever / num_projects, "share", DELTA),
        Figure("3. confidence and truth differ, as the model says it", max(was for was, _ in errors), "share"),
        Figure("3. the same after calibration", max(now for _, now in errors), "share", 0.03),
        Figure("4. negatives in place of the pictures raise no alarm", missed, "share", 0.0),
        Figure("4. a quiet project raises one", quiet, "share", FALSE_ALARM),
    ]
    about = (
        f"{num_projects} projects, {NUM_BLIND} pictures checked blind and {NUM_FILLED} pre-filled, where people accept "
        f"{simulated.ACCEPTED:.0%} of the wrong answers; looked at after every label up to {num_labels:,}"
    )
    return _part(about, figures, small)


def calibration(folder: Path, small: bool) -> Part:
    """By field and number of blind labels: how far confidence and share right differ, on the whole."""
    answers, num_projects = _answers(small), 3 if small else NUM_PROJECTS
    figures = []
    for name in FIELDS:
        whole = _scored(answers, name)
        figures.append(Figure(f"{name}: as the model says it", calibration_error(whole) or 0.0, "share"))
        for num in (100, 200, 400, 1_000):
            after = _after(whole, num, num_projects)
            figures.append(Figure(f"{name}: from {num:,} labels, mean", sum(after) / len(after), "share"))
    return _part(f"{num_projects} samples a figure", [*figures, *_passing(answers, num_projects)], small)


def _part(about: str, figures: list[Figure], small: bool) -> Part:
    """Of a few projects no limit can be asked."""
    return Part(about, [replace(figure, limit=None) for figure in figures] if small else figures)


def _passing(answers: tuple[Answer, ...], num_projects: int) -> Iterator[Figure]:
    """What calibration does to the threshold, where both are found on the same NUM_BLIND labels."""
    chance = random.Random(8)
    right = [simulated.is_right(number, answer) for number, answer in enumerate(answers)]
    whole = {name: _scored(answers, name) for name in FIELDS}
    passed, broken = {"before": 0.0, "after": 0.0}, {"before": 0.0, "after": 0.0}
    for _ in range(num_projects):
        chosen = chance.sample(range(len(answers)), NUM_BLIND)
        found = {name: fitted_temperature([scored[number] for number in chosen]) for name, scored in whole.items()}
        for when, temperatures in (("before", {}), ("after", found)):
            scores = [with_calibration(answer, temperatures).score or 0.0 for answer in answers]
            scored = [(scores[number], right[number]) for number in chosen]
            threshold = guaranteed_threshold(scored, TARGET, DELTA).threshold
            passing = [right[n] for n, score in enumerate(scores) if threshold is not None and score >= threshold]
            passed[when] += len(passing) / len(answers) / num_projects
            broken[when] += (passing.count(False) > TARGET * len(passing)) / num_projects
    for when in passed:
        yield Figure(f"may pass unseen, {when} calibration", passed[when], "share")
        yield Figure(f"the guarantee is broken, {when} calibration", broken[when], "share", DELTA)


def drift_alarm(folder: Path, small: bool) -> Part:
    """How often the first block of pictures raises it, by how many of them are negatives."""
    answers, num_projects = _answers(small), 3 if small else NUM_PROJECTS
    figures = [
        Figure(f"{NUM_BLOCKS} blocks like the checked ones", _alarms(small, num_projects)[1], "share", FALSE_ALARM)
    ]
    chance = random.Random(6)
    usual, inverted = list(_looks(answers)), list(_looks(_negatives(small), "negative"))
    for share in (0.1, 0.25, 0.5, 1.0):
        num_alarms = 0
        for _ in range(num_projects):
            some = chance.sample(usual, NUM_BLIND + BLOCK)
            later = [*chance.sample(inverted, int(BLOCK * share)), *some[NUM_BLIND + int(BLOCK * share) :]]
            num_alarms += _raised(some[:NUM_BLIND], later)
        figures.append(Figure(f"{share:.0%} of a block are negatives", num_alarms / num_projects, "share"))
    return _part(f"{num_projects} projects, {NUM_BLIND} checked, blocks of {BLOCK}", figures, small)


def _answers(small: bool) -> tuple[Answer, ...]:
    return simulated.answered(NUM_BLIND + NUM_BLOCKS * BLOCK if small else NUM)


def _negatives(small: bool) -> tuple[Answer, ...]:
    return simulated.answered(BLOCK if small else NUM_INVERTED, inverted=True)


def _alarms(small: bool, num_projects: int) -> tuple[float, float]:
    """Shares of projects: with a block of negatives and no alarm; with an alarm for nothing in NUM_BLOCKS blocks."""
    chance = random.Random(5)
    usual = list(_looks(_answers(small)))
    inverted = list(_looks(_negatives(small), "negative"))
    missed = quiet = 0
    for _ in range(num_projects):
        some = chance.sample(usual, NUM_BLIND + NUM_BLOCKS * BLOCK)
        missed += not _raised(some[:NUM_BLIND], chance.sample(inverted, BLOCK))
        quiet += _raised(some[:NUM_BLIND], some[NUM_BLIND:])
    return missed / num_projects, quiet / num_projects


def _raised(checked: Sequence[Look], later: Sequence[Look]) -> bool:
    return drift(checked, [*checked, *later]) is not None


def _looks(answers: tuple[Answer, ...], kind: str = "picture") -> Iterator[Look]:
    return (look_of(simulated.schema(), f"{kind} {number}", answer) for number, answer in enumerate(answers))


def _errors(answers: tuple[Answer, ...], name: str, num_projects: int) -> tuple[float, float]:
    """Before, and the mean after."""
    whole = _scored(answers, name)
    after = _after(whole, NUM_BLIND, num_projects)
    return calibration_error(whole) or 0.0, sum(after) / len(after)


def _after(whole: Sequence[tuple[float, bool]], num: int, num_projects: int) -> list[float]:
    """On the whole, once a temperature was fitted on `num` labels of it."""
    chance = random.Random(7)
    samples = [chance.sample(whole, min(num, len(whole))) for _ in range(num_projects)]
    rated = ([(calibrated(c, found), is_right) for c, is_right in whole] for found in map(fitted_temperature, samples))
    return [calibration_error(scored) or 0.0 for scored in rated]


def _scored(answers: tuple[Answer, ...], name: str) -> list[tuple[float, bool]]:
    """Confidences with four decimals, as records have them."""
    return [
        (round(answer.fields[name].confidence or 0.0, 4), answer.fields[name].value == truth.fields[name].value)
        for answer, truth in zip(answers, map(simulated.truth, range(len(answers))), strict=True)
    ]


def _wrong(answers: tuple[Answer, ...], threshold: float | None) -> float:
    """Of what passes."""
    passed = [n for n, answer in enumerate(answers) if threshold is not None and (answer.score or 0.0) >= threshold]
    return sum(not simulated.is_right(number, answers[number]) for number in passed) / len(passed) if passed else 0.0
