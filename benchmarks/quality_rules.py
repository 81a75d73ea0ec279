"""How often a rule in words is adopted that makes nothing better, and one that does: a part of `benchmarks.quality`.

All of it is simulated: a project has blind tasks, half of them held out, of which as many are wrong as of the built-in
model's answers. A rule is what it does to answers: the share of wrong ones that it repairs, and of right ones that it
spoils. A *useless* one does both equally often, which is the hardest of those that are not better. People try one rule
after the other on the same held-out tasks, and adopt the first that is called better.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.quality.rules import HELD_OUT, LEVEL, Tried, wrong_needed
from benchmarks.report import Figure, Part

NUM_PROJECTS = 1_000
NUM_BLIND = (200, 400, 1_000)
NUM_TRIES = 5
WRONG = 0.109
"""As `garments` has it on Fashion-MNIST's test pictures: 89.1 % of its answers have all labels right."""

Judge = Callable[[Tried], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    repairs: float
    spoils: float

    def tried(self, chance: random.Random, held_out: Sequence[bool], number: int) -> Tried:
        """`held_out`: whether each task is right without it."""
        changed = [chance.random() < (self.spoils if right else self.repairs) for right in held_out]
        num_better = sum(changes and not right for changes, right in zip(changed, held_out, strict=True))
        return Tried(len(held_out), held_out.count(False), num_better, sum(changed) - num_better, number)


def rules(folder: Path, small: bool) -> Part:
    """How often one is adopted, of those that are no better and of those that are."""
    num = 20 if small else NUM_PROJECTS
    figures = []
    for num_blind in NUM_BLIND[:1] if small else NUM_BLIND:
        for repairs in (0.1, 0.3, 0.6):
            useless = Rule(repairs, repairs * WRONG / (1 - WRONG))
            about = f"{num_blind:,} blind, {NUM_TRIES} useless rules that repair {repairs:.0%} of the wrong"
            guarded = _adopted(num_blind, useless, judged, NUM_TRIES, num)
            figures.append(Figure(f"{about}: one is adopted", guarded, "share", None if small else LEVEL))
            plain = _adopted(num_blind, useless, unguarded, NUM_TRIES, num)
            figures.append(Figure(f"{about}: one has p of 5% or less", plain, "share"))
        for rule in (Rule(0.5, 0.0), Rule(0.5, 0.01), Rule(0.25, 0.0)):
            about = f"repairs {rule.repairs:.0%} of the wrong and spoils {rule.spoils:.0%} of the right"
            share = _adopted(num_blind, rule, judged, 1, num)
            figures.append(Figure(f"{num_blind:,} blind, a rule that {about}: adopted", share, "share"))
    return Part(f"{num:,} projects in which {WRONG:.1%} of the answers are wrong, simulated", figures)


def judged(tried: Tried) -> bool:
    """As `prelabel quality --try-rule` does."""
    return tried.num_wrong >= wrong_needed(tried.number) and tried.outcome == "better"


def unguarded(tried: Tried) -> bool:
    """The same test, each try as if it were the only one."""
    return tried.p <= LEVEL


def _adopted(num_blind: int, rule: Rule, judge: Judge, num_tries: int, num: int) -> float:
    """In which share of `num` projects one of `num_tries` such rules is adopted."""
    chance = random.Random(9)
    num_adopted = 0
    for _ in range(num):
        held_out = [chance.random() >= WRONG for _ in range(round(num_blind * HELD_OUT))]
        num_adopted += any(judge(rule.tried(chance, held_out, number)) for number in range(1, num_tries + 1))
    return num_adopted / num
