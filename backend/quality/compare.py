"""One answer's value beside the right one, for each kind of field. Nothing raises.

A taxonomy's answer is right as a whole path; how much of it is right is told by its levels and, as S. Kiritchenko et
al. define them (Canadian AI 2006), by precision and recall over the nodes of a path with all their ancestors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from label_config.answer import FieldValue
from label_config.schema import ChoicesField, Field, TaxonomyField, TextField
from label_config.visible import visible_text

_MAX_COMPARED_CHARS = 8_000
Label = str


@dataclass(frozen=True, slots=True)
class Overlap:
    """Of two sets: how many are in both, in the answer, in the truth."""

    num_both: int
    num_answer: int
    num_truth: int


@dataclass(frozen=True, slots=True)
class Compared:
    """`is_right`: nothing had to be corrected. The rest is None where the kind of field has no such thing.

    `overlap`: of the labels of a multiple choice, or of a taxonomy's nodes with their ancestors. `levels`: whether the
    path is right down to each level of the true one, from the root. `kept`: 1 less the share of characters that were
    edited. `error`: how far a number is off. `pair`: what was answered and what is right, where it is one label each.
    """

    is_right: bool
    overlap: Overlap | None = None
    levels: tuple[bool, ...] | None = None
    kept: float | None = None
    error: float | None = None
    pair: tuple[Label, Label] | None = None


def compared(field: Field, answer: FieldValue, truth: FieldValue) -> Compared:
    """None, for either, is that there is no value."""
    match field:
        case TextField():
            return _texts(answer, truth)
        case TaxonomyField():
            return _paths(_tuples(answer), _tuples(truth), several=field.max_paths > 1)
        case ChoicesField():
            return _labels(_strings(answer), _strings(truth), several=field.multiple)
    is_right = answer == truth
    if isinstance(answer, int | float) and isinstance(truth, int | float):
        return Compared(is_right, error=abs(answer - truth))
    return Compared(is_right)


def told(value: FieldValue) -> str:
    """As people read it: labels with commas, a path with slashes, "" for none."""
    if isinstance(value, tuple):
        return ", ".join(" / ".join(item) if isinstance(item, tuple) else item for item in value)
    return "" if value is None else str(value)


def _texts(answer: FieldValue, truth: FieldValue) -> Compared:
    from rapidfuzz.distance import Indel

    before, after = map(_visible, (answer, truth))
    kept = 1.0 if before == after else Indel.normalized_similarity(before, after)
    return Compared(before == after, kept=kept)


def _visible(text: FieldValue) -> str:
    return visible_text(text, _MAX_COMPARED_CHARS) if isinstance(text, str) else ""


def _labels(answer: tuple[Label, ...], truth: tuple[Label, ...], *, several: bool) -> Compared:
    both = set(answer) & set(truth)
    overlap = Overlap(len(both), len(set(answer)), len(set(truth))) if several else None
    pair = (answer[0] if answer else "", truth[0] if truth else "")
    return Compared(set(answer) == set(truth), overlap, pair=None if several or _are_more(answer, truth) else pair)


def _paths(answer: tuple[tuple[Label, ...], ...], truth: tuple[tuple[Label, ...], ...], *, several: bool) -> Compared:
    nodes_answer, nodes_truth = _with_ancestors(answer), _with_ancestors(truth)
    overlap = Overlap(len(nodes_answer & nodes_truth), len(nodes_answer), len(nodes_truth))
    is_right = set(answer) == set(truth)
    if several or _are_more(answer, truth):
        return Compared(is_right, overlap)
    right, given = (paths[0] if paths else () for paths in (truth, answer))
    levels = tuple(given[: depth + 1] == right[: depth + 1] for depth in range(len(right)))
    return Compared(is_right, overlap, levels or None, pair=(" / ".join(given), " / ".join(right)))


def _are_more(answer: Sequence[object], truth: Sequence[object]) -> bool:
    """People may choose several where the model is asked for one."""
    return max(len(answer), len(truth)) > 1


def _with_ancestors(paths: tuple[tuple[Label, ...], ...]) -> set[tuple[Label, ...]]:
    return {path[:end] for path in paths for end in range(1, len(path) + 1)}


def _strings(value: FieldValue) -> tuple[Label, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, tuple) else ()


def _tuples(value: FieldValue) -> tuple[tuple[Label, ...], ...]:
    return tuple(item for item in value if isinstance(item, tuple)) if isinstance(value, tuple) else ()
