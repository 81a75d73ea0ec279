"""Tasks that people labelled, for the tests of what is made of them."""

from __future__ import annotations

from backend.quality.drift import Look, look_of
from backend.quality.people import Labelled
from backend.quality.summary import FindThreshold, Quality, quality_of
from backend.quality.threshold import guaranteed_threshold
from label_config.answer import Answer, FieldAnswer
from label_config.schema import Choice, ChoicesField, LabelSchema, TextField


def schema(name: str = "season", labels: tuple[str, ...] = ("summer", "winter"), title: str = "季节") -> LabelSchema:
    fields = (ChoicesField(name, "image", tuple(map(Choice, labels)), title=title), TextField("caption", "image"))
    return LabelSchema(fields, "image", "image")


def task(
    number: int, right: bool, confidence: float = 0.97, *, asked: LabelSchema | None = None, saw_answer: bool = False
) -> Labelled:
    """Answered with the first label."""
    [field, *_] = (asked or schema()).fields
    assert isinstance(field, ChoicesField)
    first, second = (choice.value for choice in field.choices[:2])
    truth = Answer({field.name: FieldAnswer((first if right else second,))})
    answer = Answer({field.name: FieldAnswer((first,), confidence)})
    return Labelled(f"t{number:03}", answer, truth, "m", saw_answer=saw_answer, lead_s=4.0 if saw_answer else 12.0)


def quality(
    num_right: int,
    num_wrong: int,
    num_filled: int = 0,
    *,
    asked: LabelSchema | None = None,
    confidence: float = 0.97,
    num_changed: int = 0,
    since: float = 1_796_300_000.0,
    find: FindThreshold = guaranteed_threshold,
) -> Quality:
    """So many checked blind, and pre-filled ones that are all right; and then so many that are not like these."""
    rights = [True] * num_right + [False] * num_wrong
    tasks = [task(number, right, confidence, asked=asked) for number, right in enumerate(rights)]
    tasks += [task(900 + number, True, asked=asked, saw_answer=True) for number in range(num_filled)]
    answered = [look_of(asked or schema(), tasks[0].name, tasks[0].answer)] if tasks else []
    answered += [Look(f"later-{number}", 0.3, {"season": "winter"}, since) for number in range(num_changed)]
    unused = {"not_labelled": 7}
    return quality_of(asked or schema(), tasks, unused, target=0.05, delta=0.1, answered=answered, find=find)
