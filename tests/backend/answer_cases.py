"""Answers to many label configs: the ready-made ones, several controls, aliases, several paths, nothing but text.

`contents_0_1_0` is what prelabel 0.1.0 stored of each, by name: a prediction without region ids, and its reasons.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from backend.predict.options import ProjectOptions
from backend.predict.recipe import Recipe, recipe_of
from label_config.answer import Answer, FieldAnswer, FieldValue
from label_config.parse import parse_label_config
from label_config.review import Finding, review
from label_config.schema import ChoicesField, Field, LabelSchema, NumberField, RatingField, TaxonomyField
from tests.backend.serving import CAPTION, CONFIG
from tests.label_config.configs import CAPTION as TEXT_AREA
from tests.label_config.configs import EVERYTHING, choice, view

STORED = Path(__file__).parent / "store" / "contents_0_1_0.jsonl"
READY_MADE = Path(__file__).parent / "store" / "label_configs_0_1_0"  # as projects of then have them
PATHS = view(
    '<Taxonomy name="where" toName="image" maxUsages="3">',
    choice("shop", alias="s", inner=choice('the "front"', alias="f") + choice("back/室内")),
    choice("street", inner=choice("corner", alias="c")),
    "</Taxonomy>",
    '<Number name="height" toName="image"/>',
)
CONFIGS = {
    **{file.stem: (file.read_text(encoding="utf-8"), file.stem[-2:]) for file in sorted(READY_MADE.glob("*.xml"))},
    "everything.zh": (EVERYTHING, "zh"),
    "everything.en": (EVERYTHING, "en"),
    "paths.en": (PATHS, "en"),
    "text.zh": (view(TEXT_AREA, '<TextArea name="title" toName="image"/>'), "zh"),
    "served.zh": (CONFIG, "zh"),
}
SAID = {
    "zh": CAPTION,
    "en": "A young woman in a long white dress holds a beige parasol on a beach, and looks at the sea.",
}


@dataclass(frozen=True, slots=True)
class Case:
    recipe: Recipe
    answer: Answer

    @property
    def findings(self) -> tuple[Finding, ...]:
        return review(self.recipe.schema, self.answer, self.recipe.review_options)


def cases() -> dict[str, Case]:
    made: dict[str, Case] = {}
    for name, (xml, language) in CONFIGS.items():
        # prelabel 0.1.0 took every text for a description
        options = ProjectOptions.model_validate({"language": language, "fields": {"title": {"kind": "description"}}})
        recipe = recipe_of(parse_label_config(xml), options, 256)
        for kind, answer in _answers(recipe.schema, SAID[language]):
            made[f"{name} {kind}"] = Case(recipe, answer)
    return made


def _answers(schema: LabelSchema, said: str) -> Iterator[tuple[str, Answer]]:
    fields = schema.answer_order
    sure = {f.name: _field(f, _value(f, said), 0.99 - 0.0301 * i) for i, f in enumerate(fields)}
    yield "sure", Answer(sure)
    yield (
        "in doubt",
        Answer({f.name: _field(f, _value(f, "看不清, unclear"), 1 / (3 + i)) for i, f in enumerate(fields)}),
    )
    yield "empty", Answer({f.name: _field(f, None, 0.1 + 0.07 * i) for i, f in enumerate(fields)})
    yield (
        "half empty",
        Answer({f.name: _field(f, _value(f, said) if i % 2 else None, 0.6 + 0.01 * i) for i, f in enumerate(fields)}),
    )
    yield "cut", Answer(dict(list(sure.items())[:2]), truncated=True)
    yield "odd text", Answer({f.name: _field(f, _value(f, f" {said}\u200b\n{said[:9]}\u3000"), 1.0) for f in fields})
    yield "blank", Answer({f.name: _field(f, _value(f, " \u200b "), 0.5) for f in fields})


def _field(field: Field, value: FieldValue, confidence: float) -> FieldAnswer:
    is_label = isinstance(field, ChoicesField | TaxonomyField | RatingField | NumberField)
    return FieldAnswer(value, confidence if is_label else None)


def _value(field: Field, said: str) -> FieldValue:
    match field:
        case ChoicesField():
            labels = tuple(one.value for one in field.choices)
            return labels[-3:] if field.multiple else labels[-1:]
        case TaxonomyField():
            paths = [tuple(node.value for node in path) for path in field.paths()]
            return tuple(paths[-(field.max_usages or 1) :])
        case RatingField():
            return field.max_rating
        case NumberField():
            return 12.5 if field.minimum is None else field.minimum + 2
    return said


def contents_0_1_0() -> dict[str, str]:
    documents = map(json.loads, STORED.read_text(encoding="utf-8").splitlines())
    return {one["case"]: json.dumps(one["content"], ensure_ascii=False) for one in documents}
