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
from label_config.regions import regions_to_answer
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
    gave the same labels; None where it was one.
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


def labelled(known: Known, annotations: Sequence[Mapping[str, Any]], schema: LabelSchema) -> Labelled | Unused:
    """What `usable` annotations of one task say of `known`.

    Of several the one marked as ground truth counts, else the last that was changed.
    """
    if any(_seen_version(one) not in (None, known.model_version) for one in annotations):
        return "other_version"
    ordered = sorted(annotations, key=lambda one: (bool(one.get("ground_truth")), str(one.get("updated_at") or "")))
    answers = [regions_to_answer(schema, _list(one.get("result"))) for one in ordered]
    return Labelled(
        known.name,
        known.answer,
        answers[-1],
        known.model_version,
        saw_answer=any(map(_saw_answer, ordered)),
        lead_s=_lead_s(ordered[-1].get("lead_time")),
        agrees=None if len(answers) == 1 else len({_labels(answer, schema) for answer in answers}) == 1,
    )


def _lead_s(lead: Any) -> float | None:
    is_number = isinstance(lead, int | float) and not isinstance(lead, bool)
    return float(lead) if is_number and MIN_LEAD_S <= lead <= MAX_LEAD_S else None


def _is_from_prediction(annotation: Mapping[str, Any]) -> bool:
    """*Create Annotations From Predictions* made it: nobody opened it, so it took no time."""
    return annotation.get("parent_prediction") is not None and annotation.get("lead_time") is None


def _saw_answer(annotation: Mapping[str, Any]) -> bool:
    regions = [region for region in _list(annotation.get("result")) if isinstance(region, Mapping)]
    came_from_one = any(str(region.get("origin", "")).startswith("prediction") for region in regions)
    return came_from_one or annotation.get("parent_prediction") is not None or bool(annotation.get("prediction"))


def _seen_version(annotation: Mapping[str, Any]) -> str | None:
    """The model version of the prediction that the form was filled with; None if it had none, or does not say."""
    seen = annotation.get("prediction")
    version = seen.get("model_version") if isinstance(seen, Mapping) else None
    return version if isinstance(version, str) and version else None


def _labels(answer: Answer, schema: LabelSchema) -> tuple[Any, ...]:
    names = [found.name for found in schema.fields if not isinstance(found, TextField)]
    return tuple(answer.fields[name].value if name in answer.fields else None for name in names)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
