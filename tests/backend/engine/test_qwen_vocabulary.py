"""Qwen3's real tokenizer and our grammars: 151,669 tokens that cross the borders of keys, quotes and labels."""

from __future__ import annotations

import random

import pytest

from backend.engine.sequence import GrammarError
from backend.predict.options import ProjectOptions
from backend.predict.recipe import Recipe, recipe_of
from benchmarks.qwen_vocabulary import FOLDER, follow, qwen_grammars, qwen_tokenizer
from label_config.answer import FieldValue, parse_answer, render_answer
from label_config.parse import parse_label_config
from label_config.ready_made import ready_made, ready_made_names
from label_config.schema import Choice, ChoicesField, LabelSchema, TaxonomyField
from model_loader.chat import END_OF_TEXT, TURN_END, encode_prompt, special_id
from model_loader.memory import Request
from model_loader.tokenizer_file import check_tokenizer
from tests.backend.answer_cases import SAID
from tests.backend.engine.test_grammar_check import tree
from tests.limits import examples

pytestmark = pytest.mark.slow  # reading it takes seconds
NAMES = ready_made_names()
CAPTION = "caption"


def recipe(name: str) -> Recipe:
    return recipe_of(parse_label_config(ready_made(name)), ProjectOptions.model_validate({"language": name[-2:]}), 256)


def random_labels(schema: LabelSchema, chance: random.Random) -> dict[str, FieldValue]:
    values: dict[str, FieldValue] = {}
    for field in schema.fields:
        if isinstance(field, ChoicesField):
            values[field.name] = (chance.choice(field.choices).value,)
        elif isinstance(field, TaxonomyField):
            values[field.name] = (tuple(node.value for node in chance.choice(list(field.paths()))),)
    return values


def cut(text: str) -> tuple[bytes, ...]:
    """`text` as the tokenizer cuts it."""
    return tuple(map(qwen_grammars().piece, qwen_tokenizer().encode(text, add_special_tokens=False)))


@pytest.mark.parametrize("labels", [("Coat", "Red hat"), ("大衣", "帽子"), ("1", "7")], ids=str)
def test_signs_of_json_before_a_label_are_no_step(labels: tuple[str, ...]) -> None:
    schema = LabelSchema((ChoicesField("style", "i", tuple(map(Choice, labels)), required=True),), "i", "i")
    for label in labels:
        text = render_answer(schema, {"style": (label,)})
        followed = follow(schema, text)
        assert (followed.pieces, followed.num_steps) == (cut(text), 1)


def test_the_check_of_a_checkpoint_takes_it_and_it_has_qwens_special_tokens() -> None:
    check_tokenizer(FOLDER / "tokenizer.json")
    assert len(qwen_tokenizer()) == 151_669
    assert [special_id(qwen_tokenizer(), name) for name in (END_OF_TEXT, TURN_END)] == [151_643, 151_645]


@pytest.mark.parametrize("name", NAMES)
def test_legal_answers_to_a_ready_made_config_are_written_and_read(name: str) -> None:
    """And they are cut as the tokenizer cuts them, what is forced, too: so a model that writes so loses nothing."""
    schema, chance = recipe(name).schema, random.Random(name)
    for _ in range(examples(20, 500)):
        values = random_labels(schema, chance) | {CAPTION: SAID[name[-2:]]}
        text = render_answer(schema, values)
        followed = follow(schema, text)
        assert followed.pieces == cut(text)
        answer = parse_answer(schema, followed.pieces, [1.0] * len(followed.pieces), truncated=False)
        assert {field: one.value for field, one in answer.fields.items()} == values


@pytest.mark.parametrize("name", NAMES)
def test_a_label_that_the_config_does_not_have_is_not_written(name: str) -> None:
    schema = recipe(name).schema
    values = random_labels(schema, random.Random(0)) | {CAPTION: SAID[name[-2:]]}
    wrong = render_answer(schema, values).replace(str(values["season"][0]), "monsoon 雨季")  # type: ignore[index]
    with pytest.raises(GrammarError):
        follow(schema, wrong)


def test_a_taxonomy_of_five_thousand_leaves_is_followed_to_any_of_them() -> None:
    schema = tree(5_000, max_usages=1)
    for seed in range(examples(20, 500)):
        values = random_labels(schema, random.Random(seed))
        answer = render_answer(schema, values)
        assert b"".join(follow(schema, answer).pieces).decode() == answer


def test_the_memory_plan_counts_with_the_instruction_of_the_ready_made_config() -> None:
    lengths = {name: len(encode_prompt(qwen_tokenizer(), recipe(name).instruction, 1).prefix_ids) for name in NAMES}
    print(f"tokens of the instructions: {lengths}")
    assert lengths["ecommerce.zh"] == Request().instruction_tokens
    assert max(lengths.values()) == Request().instruction_tokens
