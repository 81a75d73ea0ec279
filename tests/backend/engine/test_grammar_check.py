"""What the matcher cannot run is known before the first task, with the number of labels that can be run."""

from __future__ import annotations

import random

import pytest

from backend.engine.grammar_check import grammar_limits, grammar_problem
from label_config.parse import parse_label_config
from label_config.ready_made import ready_made, ready_made_names
from label_config.schema import Choice, ChoicesField, LabelSchema, TaxonomyField, TaxonomyNode
from tests.backend.engine.test_sequence import CAPTION, schema_of, start
from tests.label_config.configs import view

HAN = [chr(code) for code in range(0x4E00, 0x9000)]
WORDS = ("red", "blue", "cotton", "silk", "dress", "shirt", "women", "men", "kids", "formal", "long", "short", "print")


def han_labels(count: int) -> list[str]:
    chance = random.Random(count)
    return list(dict.fromkeys("".join(chance.choices(HAN, k=chance.randint(4, 8))) for _ in range(count)))


def english_labels(count: int) -> list[str]:
    chance = random.Random(count)
    return list(dict.fromkeys(" ".join(chance.choices(WORDS, k=5)) for _ in range(count)))


def several(labels: list[str]) -> LabelSchema:
    return schema_of(ChoicesField("c", "pic", tuple(map(Choice, labels)), multiple=True, required=True))


def tree(num_leaves: int, max_usages: int) -> LabelSchema:
    labels = han_labels(2 * num_leaves)
    nodes = [TaxonomyNode(label) for label in labels[:num_leaves]]
    while len(nodes) > 30:
        parents = zip(labels[-len(nodes) :], range(0, len(nodes), 7), strict=False)
        nodes = [TaxonomyNode(label, children=tuple(nodes[at : at + 7])) for label, at in parents]
    return schema_of(TaxonomyField("c", "pic", tuple(nodes), leaves_only=True, max_usages=max_usages))


RUNS = {
    "400 chinese": several(han_labels(400)),
    "1,200 english": several(english_labels(1_200)),
    "2,000 numbered": several([f"label {number}" for number in range(2_000)]),
    "one of 3,000": schema_of(ChoicesField("c", "pic", tuple(map(Choice, han_labels(3_000))))),
    "three paths of 2,600": tree(2_600, 3),
    "twenty paths of 2,600": tree(2_600, 20),
}


@pytest.mark.parametrize("name", RUNS)
def test_long_lists_are_run_and_the_check_says_so(name: str) -> None:
    assert grammar_problem(RUNS[name], 400) == ""


@pytest.mark.parametrize("name", ["400 chinese", "three paths of 2,600"])
def test_the_engine_answers_them(name: str) -> None:
    """With the limits it had before, the first step of these failed."""
    sequence = start(*RUNS[name].fields, CAPTION, max_new_tokens=60)
    while not sequence.finished:
        mask = int.from_bytes(sequence.matcher.compute_bitmask(), "little")
        assert mask, sequence.matcher.get_error()
        sequence.append((mask & -mask).bit_length() - 1, 0.5)


@pytest.mark.parametrize("labels", [han_labels(9_000), english_labels(20_000)], ids=["chinese", "english"])
def test_more_than_can_be_run_is_refused_with_the_number_that_fits(labels: list[str]) -> None:
    problem = grammar_problem(several(labels), 400)
    assert f'"c" has {len(labels):,} labels of which several may be chosen' in problem
    fits = int(problem.split(";")[1].split()[0].replace(",", ""))
    assert 1_000 <= fits < len(labels)
    assert grammar_problem(several(labels[:fits]), 400) == ""


def test_the_field_that_is_too_long_is_named_and_not_its_neighbours() -> None:
    style = ChoicesField("style", "pic", (Choice("a"), Choice("b")), multiple=True)
    long = several(han_labels(9_000)).fields[0]
    assert grammar_problem(schema_of(CAPTION, style, long), 400).startswith('"c" has ')


@pytest.mark.parametrize("name", ready_made_names())
def test_a_ready_made_config_has_no_problem(name: str) -> None:
    assert grammar_problem(parse_label_config(ready_made(name)), 400) == ""


@pytest.mark.parametrize(
    "bounds", ["", 'min="0"', 'min="1" step="1"', 'min="0.001" max="0.02"', 'min="-3" max="-1" step="0.5"']
)
def test_a_number_that_must_be_filled_is_no_problem(bounds: str) -> None:
    schema = parse_label_config(view(f'<Number name="n" toName="image" required="true" {bounds}/>'))
    assert schema.fields[0].required
    assert grammar_problem(schema, 400) == ""


def test_a_step_of_the_engine_may_cost_more_than_the_check_allows() -> None:
    assert grammar_limits().step_lexer_fuel > 2_000_000
