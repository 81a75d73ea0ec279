"""An answer with its findings, and its form in the store: JSON that is no task's and not yet Label Studio's.

Regions are made of it where it leaves for Label Studio, in a reply or a push (`Answered.prediction`).

Two forms are read. Form 2 is written. Form 1 is what prelabel 0.1.0 wrote: a prediction without its region ids, and
beside it what no prediction says. No migration turns one into the other: regions are read with the label config (an
alias is not the label), and answers of bulk runs, or those whose work was forgotten, have none in the store. Whoever
looks for an answer has it at hand. Form 1 dies out: answers that nobody needs are forgotten after 30 days.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from backend.predict.recipe import Recipe
from backend.predict.task import TaskId
from label_config.answer import Answer, FieldAnswer, FieldValue
from label_config.rating import with_calibration
from label_config.regions import prediction, regions_to_answer
from label_config.review import Finding, Seen, review

FORM = 2


@dataclass(frozen=True, slots=True)
class Answered:
    """What the store keeps under `key`, which stands for a picture and an answer version.

    `plain` is what is kept, where a project rates its answers in a way of its own; None where this is it.
    """

    key: str
    model_version: str
    answer: Answer
    findings: tuple[Finding, ...] = ()
    plain: Answered | None = None

    @property
    def score(self) -> float | None:
        return self.answer.score

    @property
    def needs_review(self) -> bool:
        return bool(self.findings)

    def rated(self, recipe: Recipe) -> Answered:
        """As the project of `recipe` rates it: its calibration, and its thresholds for review. Nothing is computed by
        a model, so a changed rating costs nothing."""
        plain = self.plain or self
        if not recipe.rating:
            return plain
        answer = with_calibration(plain.answer, dict(recipe.options.calibration))
        was_long = any(finding.code == "very_long" for finding in plain.findings)  # which the answer does not tell
        seen = Seen(shape=math.inf, scale=0.0) if was_long else None
        findings = review(recipe.schema, answer, recipe.rated_review_options, seen)
        return Answered(plain.key, recipe.rated_version(plain.model_version), answer, findings, plain)

    def prediction(self, recipe: Recipe, task_id: TaskId) -> dict[str, Any]:
        """Label Studio's dict for one task. Region ids follow from task and version, so that work done twice is
        recognisably the same."""
        seed, language = f"{task_id}:{self.model_version}", recipe.options.language
        return prediction(recipe.schema, self.answer, self.findings, self.model_version, seed, language=language)

    @property
    def content(self) -> str:
        """Its form in the store. Every number of an answer is one that JSON has."""
        if self.plain is not None:
            return self.plain.content
        answer = self.answer
        document: dict[str, Any] = {
            "form": FORM,
            "model_version": self.model_version,
            "fields": {name: _written(field) for name, field in answer.fields.items()},
        }
        if answer.truncated:
            document["truncated"] = True
        if self.findings:
            document["findings"] = [asdict(finding) for finding in self.findings]
        return json.dumps(document, ensure_ascii=False, allow_nan=False)

    @classmethod
    def read(cls, recipe: Recipe, key: str, content: str) -> Answered:
        """The inverse of `content`, rated; `recipe` is that of the answer. Raises ValueError for what is no stored
        answer."""
        document = json.loads(content)
        try:
            version, form = document["model_version"], document.get("form", 1)
            if not isinstance(version, str) or form not in _READERS:
                raise ValueError("this is no stored answer")
            return cls(key, version, *_READERS[form](recipe, document)).rated(recipe)
        except (KeyError, TypeError, AttributeError):
            raise ValueError("this is no stored answer") from None


def _written(field: FieldAnswer) -> dict[str, Any]:
    return {"value": field.value} | ({} if field.confidence is None else {"confidence": field.confidence})


def _read_form_2(recipe: Recipe, document: Mapping[str, Any]) -> tuple[Answer, tuple[Finding, ...]]:
    fields = {name: FieldAnswer(_value(f["value"]), f.get("confidence")) for name, f in document["fields"].items()}
    findings = tuple(Finding(**finding) for finding in document.get("findings", ()))
    return Answer(fields, truncated=bool(document.get("truncated"))), findings


def _value(written: Any) -> FieldValue:
    """Labels and paths are tuples, which JSON has not."""
    return tuple(map(_value, written)) if isinstance(written, list) else written  # type: ignore[return-value]


def _read_form_1(recipe: Recipe, document: Mapping[str, Any]) -> tuple[Answer, tuple[Finding, ...]]:
    """`no_region` are the confidences of having no value. Findings were not always kept, and are found again."""
    fields = dict(regions_to_answer(recipe.schema, _list(document["result"])).fields)
    for name, confidence in document.get("no_region", {}).items():
        fields.setdefault(name, FieldAnswer(None, confidence))
    answer = Answer(fields, truncated=bool(document.get("truncated")))
    if not document.get("needs_review"):
        return answer, ()
    findings = tuple(Finding(*finding) for finding in document.get("findings", ()))
    return answer, findings or review(recipe.schema, answer, recipe.review_options)


def _list(regions: Any) -> list[Any]:
    if not isinstance(regions, list):
        raise TypeError
    return regions


_READERS = {1: _read_form_1, FORM: _read_form_2}
