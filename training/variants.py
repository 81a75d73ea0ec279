"""The prompts the garments model is trained on: the two shipped label configs, and random variants of them.

A variant has some of the fields, in another order, under other names, with shuffled labels and extra instructions, so
that projects with other configs over the same labels are honoured too. Imports `label_config`; only the training
script and the benchmark use this module, the product does not. Nothing raises.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from label_config.answer import FieldValue, render_answer
from label_config.parse import parse_label_config
from label_config.prompt import PromptOptions, build_instruction
from label_config.ready_made import ready_made
from label_config.schema import ChoicesField, Field, LabelSchema, TaxonomyField, TaxonomyNode
from training.captions import caption_of
from training.rules import LABELS, Labels, Language, Looks

LANGUAGES: tuple[Language, ...] = ("zh", "en")
_NAMES = {
    "category": ("category", "品类", "分类", "type", "product"),
    "style": ("style", "风格", "look"),
    "season": ("season", "季节", "适用季节"),
    "scene": ("scene", "场景", "适用场景", "occasion"),
    "caption": ("caption", "描述", "description", "title"),
}
_EXTRA: dict[Language, tuple[str, ...]] = {
    "zh": (
        "不要写品牌。",
        "描述要具体，突出卖点。",
        "颜色以图中所见为准。",
        "语言自然流畅，不要夸张。",
        "面向电商平台的买家。",
    ),
    "en": ("Do not name brands.", "Be specific.", "Keep to what is visible.", "Write for buyers.", "No exaggeration."),
}


@dataclass(frozen=True)
class Variant:
    """One way to ask: a schema, its instruction, and the role (category, style, ...) each field name plays."""

    language: Language
    schema: LabelSchema
    instruction: str
    roles: tuple[tuple[str, str], ...]

    def answer(self, class_index: int, looks: Looks, template: int) -> str:
        """The JSON line the model has to write for a picture of this class."""
        labels = LABELS[self.language][class_index]
        caption = caption_of(class_index, looks, template, self.language)
        values = {name: _value(role, labels, caption) for name, role in self.roles}
        return render_answer(self.schema, values)

    def label_strings(self, class_index: int) -> list[str]:
        """The label strings of that answer in the order in which they stand there; captions are left out."""
        labels, roles = LABELS[self.language][class_index], dict(self.roles)
        found: list[str] = []
        for field in self.schema.answer_order:
            role = roles[field.name]
            if role != "caption":
                found += labels.category if role == "category" else (getattr(labels, role),)
        return found


def _value(role: str, labels: Labels, caption: str) -> FieldValue:
    if role == "caption":
        return caption
    if role == "category":
        return (labels.category,)
    label: str = getattr(labels, role)
    return (label,)


def shipped_schema(language: Language) -> LabelSchema:
    """The schema of label_config/taxonomies/garments.<language>.xml."""
    return parse_label_config(ready_made(f"garments.{language}"))


def shipped_variant(language: Language) -> Variant:
    """The shipped config, asked as the backend asks it by default."""
    schema = shipped_schema(language)
    instruction = build_instruction(schema, PromptOptions(language=language))
    return Variant(language, schema, instruction, tuple((f.name, f.name) for f in schema.fields))


def random_variant(rng: random.Random) -> Variant:
    """A random subset and order of the fields, with shuffled labels and other wordings."""
    language = rng.choice(LANGUAGES)
    schema = shipped_schema(language)
    fields = rng.sample(schema.fields, rng.randint(1, len(schema.fields)))
    rename = rng.random() < 0.4
    changed = [_vary(field, rng, rename) for field in fields]
    roles = tuple((new.name, old.name) for new, old in zip(changed, fields, strict=True))
    low, high = rng.choice(((80, 120), (50, 100), (35, 60), (30, 80)))
    extra = " ".join(rng.sample(_EXTRA[language], rng.choice((0, 0, 1, 2))))
    options = PromptOptions(language=language, caption_min=low, caption_max=high, extra_instructions=extra)
    varied = replace(schema, fields=tuple(changed), review=None)
    return Variant(language, varied, build_instruction(varied, options), roles)


def _vary(field: Field, rng: random.Random, rename: bool) -> Field:
    name = rng.choice(_NAMES[field.name]) if rename else field.name
    title = rng.choice((field.title, field.title, "", name))
    required = rng.random() < 0.7
    if isinstance(field, ChoicesField):
        choices = tuple(rng.sample(field.choices, len(field.choices)))
        return replace(field, name=name, title=title, required=required, choices=choices)
    if isinstance(field, TaxonomyField):
        return replace(field, name=name, title=title, required=required, roots=_shuffled(field.roots, rng))
    return replace(field, name=name, title=title, required=required)


def _shuffled(nodes: tuple[TaxonomyNode, ...], rng: random.Random) -> tuple[TaxonomyNode, ...]:
    picked = rng.sample(nodes, len(nodes))
    return tuple(replace(node, children=_shuffled(node.children, rng)) for node in picked)


def corpus(num_variants: int, seed: int) -> Iterator[str]:
    """Prompts and answers to train the tokenizer on; the two shipped configs weigh most."""
    rng = random.Random(seed)  # noqa: S311
    for language in LANGUAGES:
        variant = shipped_variant(language)
        yield from [variant.instruction] * 40
    variants = [shipped_variant(language) for language in LANGUAGES for _ in range(num_variants)]
    variants += [random_variant(rng) for _ in range(num_variants)]
    for variant in variants:
        yield variant.instruction
        for class_index in range(10):
            looks = Looks(rng.randrange(3), rng.random() < 0.5, rng.random() < 0.5)
            yield variant.answer(class_index, looks, rng.randrange(2))
    yield from ("user\n", "assistant\n", "\n") * num_variants
    for language in LANGUAGES:
        shop = parse_label_config(ready_made(f"ecommerce.{language}"))
        yield from [build_instruction(shop, PromptOptions(language=language))] * 10
