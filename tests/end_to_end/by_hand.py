"""How good the answers of a project are, counted from Label Studio's export alone, as docs/quality.md says it.

Nothing of `backend.quality` is used: what that says is compared with this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import pytest
from scipy.stats import binomtest

from benchmarks.pictures import FIELDS


def labels(regions: Sequence[dict[str, Any]]) -> dict[str, str]:
    """By field."""
    return {one["from_name"]: one["value"]["choices"][0] for one in regions if one["from_name"] in FIELDS}


@dataclass
class Kind:
    """Blind tasks, or pre-filled ones: whether the answer of each was right as a whole, when it was labelled and the
    score with that, whether each field was right, and the seconds it took."""

    right: list[bool] = field(default_factory=list)
    scored: list[tuple[str, float, bool]] = field(default_factory=list)
    fields: dict[str, list[bool]] = field(default_factory=lambda: {name: [] for name in FIELDS})
    leads_s: list[float] = field(default_factory=list)

    @property
    def in_order(self) -> list[tuple[float, bool]]:
        """Score, and whether it is right, in the order in which they were labelled."""
        return [(score, is_right) for _, score, is_right in sorted(self.scored)]

    def add(self, answer: dict[str, Any], person: dict[str, Any]) -> None:
        said, meant = labels(answer["result"]), labels(person["result"])
        self.right.append(said == meant)
        self.scored.append((person["created_at"], answer["score"], said == meant))
        self.leads_s.append(person["lead_time"])
        for name in FIELDS:
            self.fields[name].append(said[name] == meant[name])


@dataclass
class Count:
    """`unused`: entries of the export that say nothing of an answer, by reason."""

    blind: Kind = field(default_factory=Kind)
    filled: Kind = field(default_factory=Kind)
    unused: Counter[str] = field(default_factory=Counter)


def counted(export: Sequence[dict[str, Any]]) -> Count:
    """Of answers under one model version, and one annotation a task."""
    found = Count()
    for task in export:
        if not task["annotations"]:
            found.unused["not_labelled"] += 1
            continue
        [person] = task["annotations"]
        if person["was_cancelled"]:
            found.unused["cancelled"] += 1
        elif person["parent_prediction"] and person["lead_time"] is None:
            found.unused["from_predictions"] += 1
        else:
            [answer] = task["predictions"]
            (found.filled if person["parent_prediction"] else found.blind).add(answer, person)
    return found


def planned_look(num_labels: int, target: float, delta: float) -> tuple[int, float]:
    """The last one: at the first 50, 100, 200, ... labels, beginning where anything could pass; with half of `delta`,
    a quarter of it, ... (0, 0.0): none yet."""
    num, spent, last = 50, delta / 2, (0, 0.0)
    while _at_most(0, num, spent) > target:
        num *= 2
    while num <= num_labels:
        last = num, spent
        num, spent = 2 * num, spent / 2
    return last


def threshold(scored: Sequence[tuple[float, bool]], target: float, delta: float) -> float | None:
    """From 0.95 downwards in steps of 0.01, beginning where so many score so high that they could pass were they all
    right, as long as the upper bound on the wrong share stays within the target."""
    found = None
    for at in (hundredths / 100 for hundredths in range(95, 4, -1)):
        right = [is_right for score, is_right in scored if score >= at]
        if not right or _at_most(0, len(right), delta) > target:
            continue
        if _at_most(right.count(False), len(right), delta) > target:
            break
        found = at
    return found


def _at_most(num_wrong: int, num: int, delta: float) -> float:
    return float(binomtest(num_wrong, num, alternative="less").proportion_ci(1 - delta, "exact").high)


def assert_said(found: dict[str, Any], export: Sequence[dict[str, Any]], wrong_share: float, delta: float) -> None:
    """What `prelabel quality --json` says is what is counted from the export."""
    hand = counted(export)
    assert (found["num_entries"], found["unused"]) == (len(export), dict(hand.unused))
    assert {one["name"] for one in found["fields"]} == set(FIELDS)
    for name, kind in (("blind", hand.blind), ("filled", hand.filled)):
        assert found[f"num_{name}"] == found["time_saved"][f"num_{name}"] == len(kind.right)
        assert found["time_saved"][f"{name}_s"] == pytest.approx(median(kind.leads_s))
        _assert_share(found[name], kind.right)
        for one in found["fields"]:
            _assert_share(one[name], kind.fields[one["name"]])
    faster = median(hand.blind.leads_s) / median(hand.filled.leads_s)
    assert found["time_saved"]["factor"] == pytest.approx(faster)
    assert found["time_saved"]["low"] <= faster <= found["time_saved"]["high"]
    num, spent = planned_look(len(hand.blind.right), wrong_share, delta)
    looked_at = hand.blind.in_order[:num]
    at = None if found["drift"] else threshold(looked_at, wrong_share, spent)
    said = found["threshold"]
    assert (said["threshold"], said["num_all"], said["num_labels"]) == (at, num, len(hand.blind.right))
    if at is not None:
        passing = [is_right for score, is_right in looked_at if score >= at]
        assert (said["num"], said["num_wrong"]) == (len(passing), passing.count(False))
        assert said["bound"] == pytest.approx(_at_most(passing.count(False), len(passing), spent))


def _assert_share(share: dict[str, Any], right: Sequence[bool]) -> None:
    between = binomtest(right.count(True), len(right)).proportion_ci(0.95, "exact")
    assert (share["num_right"], share["num"]) == (right.count(True), len(right))
    assert (share["low"], share["high"]) == (pytest.approx(between.low), pytest.approx(between.high))


def open_tasks(export: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Those that nobody has submitted."""
    return (task for task in export if all(person["was_cancelled"] for person in task["annotations"]))


def num_by_score(export: Sequence[dict[str, Any]], version: str, at: float) -> tuple[int, int]:
    """Open tasks whose answer under `version` scores `at` or more, and those whose answer scores less."""
    answers = [one for task in open_tasks(export) for one in task["predictions"] if one["model_version"] == version]
    num_passing = sum(one["score"] >= at for one in answers)
    return num_passing, len(answers) - num_passing


def num_to_review(export: Sequence[dict[str, Any]]) -> int:
    """Open tasks with an answer that is marked for review."""
    marked = (
        any(region["from_name"] == "needs_review" for one in task["predictions"] for region in one["result"])
        for task in open_tasks(export)
    )
    return sum(marked)
