"""A project's `Quality` -> one HTML page that needs nothing else and runs nothing, for people who know no statistics.

What it looks like is in `backend/pages/templates/quality.html`; here is what it is given: sentences, shapes of charts
in percent of their width and height, and every text from outside (labels, names) on one line of what a person can see.
Nothing is read or fetched: pictures and links of the worst tasks come from whoever calls. Nothing raises.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from backend.pages import html
from backend.pages.numbers import exactly
from backend.pages.outside import shown
from backend.pages.words import Language
from backend.quality.intervals import Share
from backend.quality.measures import Bin, Matrix, WrongTask
from backend.quality.page_words import QualityWords
from backend.quality.summary import FieldQuality, Quality
from backend.quality.threshold import Step

NUM_SHADES = 5
_NAME_CHARS = 120
_LABEL_CHARS = 80
_VERSION_CHARS = 160
_NOTE_CHARS = 400
_MAX_VERSIONS = 3


@dataclass(frozen=True, slots=True)
class Where:
    """Of a task: a `data:` address of its picture, and an http(s) address to open it under; either may be None."""

    thumbnail: str | None = None
    link: str | None = None


Find = Callable[[str], Where]
"""By the task's name. Raises nothing."""


@dataclass(frozen=True, slots=True)
class Curve:
    """How many of those that pass are right, over how many pass: `measured`, and `bound`, which is sure, as paths in a
    square of 100 from the left to the right and from the top down, whose lowest line is `floor`. `target` is a height,
    `chosen` the point of the threshold; `told` is the whole in words."""

    measured: str
    bound: str
    target: float
    chosen: tuple[float, float] | None
    floor: float
    told: str


@dataclass(frozen=True, slots=True)
class Dot:
    """One bin: at `x`, from `low` to `high` with the share itself at `y`, in percent from the left and from the top."""

    x: float
    y: float
    low: float
    high: float
    told: str


@dataclass(frozen=True, slots=True)
class Cell:
    """`shade`: 0..NUM_SHADES, of wrong ones by how many they are, of right ones always 0."""

    num: int
    shade: int
    is_right: bool
    told: str


@dataclass(frozen=True, slots=True)
class Card:
    """One field. `heads` and `rows` (head, cells) of its confusions, empty where there are none."""

    title: str
    name: str
    sentences: Sequence[str]
    right: Share
    dots: Sequence[Dot]
    heads: Sequence[tuple[str, str]]
    rows: Sequence[tuple[tuple[str, str], Sequence[Cell]]]


@dataclass(frozen=True, slots=True)
class Worst:
    """One task whose answer is wrong and sure: its labels as (field, answered, right, confidence)."""

    name: str
    where: Where
    score: float
    labels: Sequence[tuple[str, str, str, float | None]]


def render_quality(quality: Quality, language: Language, find: Find | None = None, *, note: str = "") -> str:
    """`find` defaults to the tasks' addresses in Label Studio, where they have one. `note` stands on top, where the
    page needs one: that its labels are simulated, say."""
    words = QualityWords(language, {field.name: field.title for field in quality.fields})
    page = html.render(
        "quality.html",
        style=html.style("report.css", "quality.css"),
        words=words,
        exactly=exactly,
        quality=quality,
        note=shown(note, _NOTE_CHARS),
        versions=[shown(version, _VERSION_CHARS) for version in list(quality.model_versions)[:_MAX_VERSIONS]],
        sentences=list(words.say.of(quality)),
        todo=words.todo(quality),
        curve=_curve(quality, words),
        cards=[_card(field, words) for field in quality.fields],
        worst=[_worst(task, find or (lambda name: _task(quality, name)), words) for task in quality.wrong],
        unfilled=words.say.unfilled(tuple(map(words.title, quality.unfilled))) if quality.unfilled else "",
        unused=[words.say.unused(reason, num) for reason, num in quality.unused.items()],
    )
    return page + "\n"


def _curve(quality: Quality, words: QualityWords) -> Curve | None:
    """None where nothing was checked blind, or no score reaches any threshold."""
    if not quality.steps:
        return None
    found, num_all = quality.threshold, quality.threshold.num_all
    right = [1 - step.num_wrong / step.num for step in quality.steps]
    # the bounds of a handful of tasks say nothing, and would press all else together
    lowest = min([*right, 1 - found.target])
    floor = max(0.0, 1 - 1.6 * (1 - lowest))

    def point(step: Step, share_right: float) -> tuple[float, float]:
        return 100 * step.num / num_all, min(100.0, 100 * (1 - share_right) / (1 - floor))

    def path(points: Sequence[tuple[float, float]]) -> str:
        return "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in points)

    chosen = next((step for step in quality.steps if step.threshold == found.threshold), None)
    return Curve(
        path([point(step, share) for step, share in zip(quality.steps, right, strict=True)]),
        path([point(step, 1 - step.bound) for step in quality.steps]),
        round(100 * found.target / (1 - floor), 2),
        point(chosen, 1 - chosen.bound) if chosen else None,
        floor,
        words.say.passing(quality),
    )


def _card(field: FieldQuality, words: QualityWords) -> Card:
    title, name = shown(field.title, _LABEL_CHARS), shown(field.name, _LABEL_CHARS)
    heads = [words.label(label) for label in field.matrix.labels] if field.matrix else []
    return Card(
        title,
        name if name != title else "",
        words.field(field),
        field.blind if field.blind.num else field.filled,
        [_dot(one, words) for one in field.reliability],
        heads,
        _rows(field.matrix, heads, words) if field.matrix else (),
    )


def _dot(one: Bin, words: QualityWords) -> Dot:
    share = one.right.share or 0.0
    told = words.said_and_right(one)
    return Dot(
        100 * one.mean_confidence, 100 * (1 - share), 100 * (1 - one.right.low), 100 * (1 - one.right.high), told
    )


def _rows(
    matrix: Matrix, heads: Sequence[tuple[str, str]], words: QualityWords
) -> list[tuple[tuple[str, str], list[Cell]]]:
    wrong = [num for i, row in enumerate(matrix.counts) for j, num in enumerate(row) if i != j]
    most = max(wrong, default=0) or 1

    def cell(i: int, j: int, num: int) -> Cell:
        is_right = i == j
        shade = 0 if is_right or not num else max(1, round(NUM_SHADES * num / most))
        return Cell(num, shade, is_right, words.confused(matrix.labels[i], matrix.labels[j], num))

    return [(heads[i], [cell(i, j, num) for j, num in enumerate(row)]) for i, row in enumerate(matrix.counts)]


def _task(quality: Quality, name: str) -> Where:
    return Where(link=f"{quality.task_url}{name}" if quality.task_url else None)


def _worst(task: WrongTask, find: Find, words: QualityWords) -> Worst:
    labels = [
        (words.title(label.field), words.label(label.answered)[1], words.label(label.right)[1], label.confidence)
        for label in task.labels
    ]
    where = find(task.name)
    if where.link is not None and not where.link.startswith(("http://", "https://")):
        where = replace(where, link=None)
    return Worst(shown(task.name, _NAME_CHARS), where, task.score, labels)
