"""What /setup says about label configs that are honoured, but not as a person may expect."""

from __future__ import annotations

import asyncio
import random

import pytest

from backend.predict.config_check import CHECK_S, ConfigChecks
from backend.predict.options import MAX_NAMED_FIELDS, ProjectOptions
from backend.predict.recipe import recipe_of
from label_config.errors import MAX_SAID_CHARS
from label_config.grammar import MAX_GRAMMAR_CHARS
from label_config.parse import parse_label_config
from tests.backend.serving import CONFIG, Server, setup_body
from tests.label_config.configs import CAPTION, choice, choices, view
from tests.limits import WAIT_S

LONG = view(CAPTION, choices(*(f"label {number}" for number in range(2_000)), name="big"), choices("a", "b"))
UNLISTED = (
    "the labels of big are not spelled out in the prompt, which lists 3,000 characters of labels; "
    "the model is still held to them"
)
LEAVES = "".join(choice(f"{number:x}") for number in range(1_300))
DEEP = view(
    '<Taxonomy name="tree" toName="image" maxUsages="3">'
    + f'<Choice value="{"a" * 100}">' * 30 + LEAVES + "</Choice>" * 30
    + "</Taxonomy>"
)  # fmt: skip


def _warnings(xml: str, options: ProjectOptions | None = None, limit_s: float = WAIT_S) -> list[str]:
    recipe = recipe_of(parse_label_config(xml), options or ProjectOptions(), 256)

    async def ask() -> list[str]:
        checks = ConfigChecks(limit_s)
        try:
            return await checks.warnings(recipe, len(xml))
        finally:
            checks.close()

    return asyncio.run(ask())


def test_a_usual_config_has_no_warnings() -> None:
    assert _warnings(CONFIG) == []


@pytest.mark.parametrize("language", ["zh", "en"])
def test_labels_left_out_of_the_prompt_are_named(language: str) -> None:
    assert _warnings(LONG, ProjectOptions.model_validate({"language": language})) == [UNLISTED]


def test_setup_tells_them(server: Server) -> None:
    reply = server.client.post("/setup", json=setup_body(LONG))
    assert (reply.status_code, reply.json()["warnings"]) == (200, [UNLISTED])


def test_a_grammar_above_our_limit_is_told_with_the_limit() -> None:
    unlisted, problem = _warnings(DEEP)
    assert unlisted.startswith("the labels of tree are not")
    assert problem.startswith(
        "no task will get a prediction, because the model cannot be held to the label config: The "
    )
    assert f"the limit is {MAX_GRAMMAR_CHARS:,}. Shorten the label lists." in problem


@pytest.mark.slow
def test_a_list_that_the_matcher_cannot_run_is_told_with_the_number_that_fits() -> None:
    han, chance = [chr(code) for code in range(0x4E00, 0x9000)], random.Random(0)
    labels = ["".join(chance.choices(han, k=6)) for _ in range(9_000)]
    _, problem = _warnings(view(choices(*labels, name="big", attributes='choice="multiple"')))
    assert problem.startswith("no task will get a prediction, because the model cannot be held to the label config: ")
    assert '"big" has 9,000 labels of which several may be chosen' in problem
    assert "such labels fit" in problem


def test_a_check_that_takes_too_long_is_given_up() -> None:
    assert CHECK_S < 3, "Label Studio waits no longer for /setup"
    (said,) = _warnings(CONFIG, limit_s=0)
    assert said.startswith("the label config was not checked within 0 s, because it is large or others")


def test_options_of_a_field_that_is_not_there_are_named() -> None:
    asked = {"gone": {"instruction": "x"}, "style": {"max_chars": 5}, "caption": {"max_chars": 90}}
    gone, labels = _warnings(view(CAPTION, choices("a", "b")), ProjectOptions.model_validate({"fields": asked}))
    assert gone == "fields: no control named 'gone' is filled; those that are: caption, style"
    assert labels == "fields: style holds labels, so only its instruction is used, not kind or max_chars"


@pytest.mark.parametrize("key", ["review_thresholds", "calibration"])
def test_a_rating_of_a_field_that_is_not_there_is_named(key: str) -> None:
    (gone,) = _warnings(view(CAPTION, choices("a")), ProjectOptions.model_validate({key: {"styel": 0.5, "style": 0.5}}))
    assert gone == f"{key}: no control named 'styel' is filled; those that are: caption, style"


def test_what_is_said_of_many_long_names_has_an_end() -> None:
    xml = view(*(f'<Rating name="{"r" * 190}{n}" toName="image"/>' for n in range(MAX_NAMED_FIELDS)))
    gone = {"x" * 190 + str(n): {"instruction": "y"} for n in range(MAX_NAMED_FIELDS)}
    rated = dict.fromkeys(gone, 0.5)
    asked = {"fields": gone, "review_thresholds": rated, "calibration": rated}
    said = _warnings(xml, ProjectOptions.model_validate(asked))
    assert len(said) == len(asked)
    assert all(len(sentence) == MAX_SAID_CHARS + 1 for sentence in said)
