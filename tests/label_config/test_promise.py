"""The promise of the product: whatever the model prefers, Label Studio takes the answer."""

from __future__ import annotations

import json
from functools import cache

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from label_studio_sdk.label_interface import LabelInterface

from label_config.answer import parse_answer, render_answer
from label_config.grammar import answer_grammar
from label_config.parse import parse_label_config
from label_config.ready_made import ready_made
from label_config.regions import prediction, regions_to_answer
from label_config.review import review
from label_config.schema import ChoicesField, LabelSchema, TaxonomyField, TextField
from tests.label_config.byte_model import generate
from tests.label_config.configs import EVERYTHING, label_configs
from tests.limits import examples

_LIMITED = settings(
    max_examples=examples(40, 1_000),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@cache
def _known(name: str) -> tuple[str, LabelSchema, str]:
    xml = EVERYTHING if name == "everything" else ready_made(name)
    schema = parse_label_config(xml)
    return xml, schema, answer_grammar(schema, text_max_chars=60)


def _check(xml: str, schema: LabelSchema, grammar: str, seed: int) -> None:
    generated = generate(grammar, seed)
    answer = parse_answer(schema, generated.pieces, generated.probabilities, truncated=False)
    values = {name: field.value for name, field in answer.fields.items()}
    assert not answer.truncated
    assert list(values) == [field.name for field in schema.answer_order]
    assert render_answer(schema, values) == generated.text
    for field in schema.fields:
        value, confidence = values[field.name], answer.fields[field.name].confidence
        if isinstance(field, ChoicesField) and isinstance(value, tuple):
            assert set(value) <= {choice.value for choice in field.choices}
            assert len(set(value)) == len(value)
        if isinstance(field, TaxonomyField) and isinstance(value, tuple):
            assert set(value) <= {tuple(node.value for node in path) for path in field.paths()}
        assert value is not None or not field.required
        assert confidence is None if isinstance(field, TextField) else 0 < confidence <= 1
    made = prediction(schema, answer, review(schema, answer), "v1", "seed")
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert LabelInterface(xml).validate_prediction(made, return_errors=True) == []
    back = regions_to_answer(schema, made["result"])
    for field in schema.fields:
        if not isinstance(field, TextField) and values[field.name] is not None:
            assert back.fields[field.name] == answer.fields[field.name]


@_LIMITED
@given(xml=label_configs(), seed=st.integers(0, 2**32))
def test_any_preference_under_any_config_gives_an_answer_that_label_studio_takes(xml: str, seed: int) -> None:
    schema = parse_label_config(xml)
    assert schema.warnings == ()
    _check(xml, schema, answer_grammar(schema, text_max_chars=12), seed)


@settings(max_examples=examples(15, 400), deadline=None)
@given(name=st.sampled_from(["everything", "ecommerce.zh", "ecommerce.en", "garments.zh"]), seed=st.integers(0, 2**32))
def test_any_preference_under_a_ready_made_config_gives_an_answer_that_label_studio_takes(name: str, seed: int) -> None:
    _check(*_known(name), seed)


@settings(max_examples=examples(15, 400), deadline=None)
@given(seed=st.integers(0, 2**32), kept=st.floats(0, 1))
def test_an_answer_cut_anywhere_keeps_fields_of_the_whole_answer(seed: int, kept: float) -> None:
    _, schema, grammar = _known("everything")
    whole = generate(grammar, seed)
    complete = parse_answer(schema, whole.pieces, whole.probabilities, truncated=False)
    count = int(kept * len(whole.pieces))
    season_end = whole.text.encode().index(b'"quality"')
    if len(b"".join(whole.pieces[:count])) < season_end:
        return
    cut = parse_answer(schema, whole.pieces[:count], whole.probabilities[:count], truncated=True)
    assert cut.truncated == (count < len(whole.pieces))
    for name, found in cut.fields.items():
        if name == "caption":
            assert str(complete.fields[name].value).startswith(str(found.value))
        else:
            assert found == complete.fields[name]
