"""A project whose truth is known: what the built-in model says of Fashion-MNIST's test pictures, and people who label.

The people are simulated: they know what is right, and where they see an answer first they let a part of the wrong ones
pass.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import torch
from PIL import ImageOps

from backend.engine.options import EngineOptions
from backend.quality.people import Labelled
from benchmarks.in_process import InProcessEngine
from benchmarks.pictures import FIELDS, labels_of, picture_of, request_about
from label_config.answer import Answer, FieldAnswer, parse_answer
from label_config.schema import LabelSchema
from model_loader.loader import load_model
from training.variants import shipped_schema

SLOTS = 64
AT_ONCE = 500
ACCEPTED = 0.4
"""Of the wrong answers that people see before they label."""


def schema() -> LabelSchema:
    return shipped_schema("zh")


@cache
def answered(num: int, *, inverted: bool = False) -> tuple[Answer, ...]:
    """Of the first `num` test pictures, or of their negatives."""
    loaded = load_model("garments", quantisation="nf4", dtype=torch.float32)
    engine, found = InProcessEngine(loaded, EngineOptions(max_slots=SLOTS)), list[Answer]()
    for start in range(0, num, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, num))
        shown = [ImageOps.invert(picture_of(number)) if inverted else picture_of(number) for number in numbers]
        for result in engine.answer(list(map(request_about, numbers, shown))):
            found.append(parse_answer(schema(), result.pieces, result.probabilities, truncated=False))
    engine.close()
    return tuple(found)


def truth(number: int) -> Answer:
    return Answer({name: FieldAnswer((getattr(labels_of(number), name),)) for name in FIELDS})


def is_right(number: int, answer: Answer) -> bool:
    """Category, style, season and scene."""
    right = truth(number)
    return all(answer.fields[name].value == right.fields[name].value for name in FIELDS)


def people(chance: random.Random, answers: Sequence[Answer], num_blind: int, num_filled: int) -> list[Labelled]:
    """Label so many pictures chosen by chance; where they saw the answer, wrong ones pass as ACCEPTED says."""
    chosen = chance.sample(range(len(answers)), num_blind + num_filled)
    labelled = [Labelled(f"{number:05}", answers[number], truth(number), "garments") for number in chosen]
    for place in range(num_blind, len(labelled)):
        one = labelled[place]
        lets_pass = not is_right(chosen[place], one.answer) and chance.random() < ACCEPTED
        said = Answer({name: FieldAnswer(one.answer.fields[name].value) for name in FIELDS}) if lets_pass else one.truth
        labelled[place] = replace(one, truth=said, saw_answer=True)
    return labelled
