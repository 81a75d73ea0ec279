"""What people said of one task in Label Studio: the right answer beside ours, or why the task says nothing of it.

One task's annotations are given as Label Studio's JSON export has them, from a file or put together from its API: these
are all the rules there are, for both. Drafts are nobody's word yet and stand in neither. Nothing raises.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from label_config.answer import Answer
from label_config.regions import are_known, regions_to_answer
from label_config.schema import LabelSchema, TextField

Unused = Literal[
    "not_labelled", "cancelled", "from_predictions", "no_record", "other_version", "twice", "unreadable", "no_answer",
    "not_chosen", "earlier", "too_large",
]  # fmt: skip
MAX_EXAMPLES = 3
MIN_LEAD_S, MAX_LEAD_S = 0.001, 30 * 86_400.0
"""Of a form that a person had open: whoever labels may send any number, and with some nothing can be divided."""


@dataclass(frozen=True, slots=True)
class Known:
    """An answer of ours that people may have said something of. `name`: how people find the picture again."""

    name: str
    answer: Answer
    model_version: str


@dataclass(frozen=True, slots=True)
class Labelled:
    """One answer of ours and the right one. `saw_answer`: whoever labelled it was shown a prediction.

    `lead_s`: how long it took them; None if Label Studio does not say. `agrees`: whether all people who labelled it
    gave the same labels at last; None where it was one.
    """

    name: str
    answer: Answer
    truth: Answer
    model_version: str
    saw_answer: bool = False
    lead_s: float | None = None
    agrees: bool | None = None


@dataclass(slots=True)
class Account:
    """Entries of the truth that were not used, by reason, with the first of each by name."""

    num: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: Unused, name: str) -> None:
        self.num[reason] += 1
        named = self.examples.setdefault(reason, [])
        if len(named) < MAX_EXAMPLES:
            named.append(name)


def usable(annotations: Sequence[Any]) -> list[Mapping[str, Any]] | Unused:
    """The annotations that a person made and submitted, or why there is none."""
    all_ = [found for found in annotations if isinstance(found, Mapping)]
    if found := [one for one in all_ if not one.get("was_cancelled") and not _is_from_prediction(one)]:
        return found
    if not all_:
        return "not_labelled"
    return "cancelled" if all(one.get("was_cancelled") for one in all_) else "from_predictions"


def labelled(
    known: Known, annotations: Sequence[Mapping[str, Any]], schema: LabelSchema, *, was_chosen: bool = False
) -> Labelled | Unused:
    """What `usable` annotations of one task say of `known`.

    Of several the one marked as ground truth counts, else the last that was changed. `was_chosen`: for the blind audit;
    what was said of such a task blind counts before what others said who saw the answer later.
    """
    found = [one for one in annotations if _seen_version(one) in (None, known.model_version)]
    if not found:
        return "other_version"
    blind = [one for one in found if not saw_answer(one)]
    ordered = _in_order(blind if was_chosen and blind else found)
    result = _list(ordered[-1].get("result"))
    if not are_known(schema, result):
        return "unreadable"
    return Labelled(
        known.name,
        known.answer,
        regions_to_answer(schema, result),
        known.model_version,
        saw_answer=any(map(saw_answer, ordered)),
        lead_s=_lead_s(ordered[-1].get("lead_time")),
        agrees=_agree(_in_order(annotations), schema),
    )


def _in_order(annotations: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The one that counts last."""
    return sorted(annotations, key=lambda one: (bool(one.get("ground_truth")), str(one.get("updated_at") or "")))


def _agree(ordered: Sequence[Mapping[str, Any]], schema: LabelSchema) -> bool | None:
    """Whether people, by what each said last, gave the same labels; None where it was one person."""
    if len(ordered) < 2:
        return None
    said: dict[object, tuple[Any, ...]] = {}
    for number, one in enumerate(ordered):
        who = one.get("completed_by")
        person = who.get("id") if isinstance(who, Mapping) else who
        said[f"nobody says who: {number}" if person is None else str(person)] = _labels(
            regions_to_answer(schema, _list(one.get("result"))), schema
        )
    return len(set(said.values())) == 1 if len(said) > 1 else None


def _lead_s(lead: Any) -> float | None:
    is_number = isinstance(lead, int | float) and not isinstance(lead, bool)
    return float(lead) if is_number and MIN_LEAD_S <= lead <= MAX_LEAD_S else None


def _is_from_prediction(annotation: Mapping[str, Any]) -> bool:
    """*Create Annotations From Predictions* made it: nobody opened it, so it took no time."""
    return annotation.get("parent_prediction") is not None and annotation.get("lead_time") is None


def saw_answer(annotation: Mapping[str, Any]) -> bool:
    """Whether there was a prediction when it was made."""
    regions = [region for region in _list(annotation.get("result")) if isinstance(region, Mapping)]
    came_from_one = any(str(region.get("origin", "")).startswith("prediction") for region in regions)
    return came_from_one or annotation.get("parent_prediction") is not None or bool(annotation.get("prediction"))


def _seen_version(annotation: Mapping[str, Any]) -> str | None:
    """The model version of the prediction that the form was filled with; None if it had none, or does not say."""
    seen = annotation.get("prediction")
    version = seen.get("model_version") if isinstance(seen, Mapping) else None
    return version if isinstance(version, str) and version else None


def _labels(answer: Answer, schema: LabelSchema) -> tuple[Any, ...]:
    """Several of one field are a set: in which order they were clicked means nothing."""
    names = [found.name for found in schema.fields if not isinstance(found, TextField)]
    values = [answer.fields[name].value if name in answer.fields else None for name in names]
    return tuple(frozenset(value) if isinstance(value, tuple) else value for value in values)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
