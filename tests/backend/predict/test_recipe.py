from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from llguidance import LLMatcher
from pydantic import ValidationError

from backend.engine.api import EngineStatus
from backend.engine.messages import Picture
from backend.predict.options import ProjectOptions, read_options
from backend.predict.recipe import recipe_of
from backend.queue.model_name import ModelNames
from backend.store.state_file import StateFile
from label_config.grammar import answer_grammar
from label_config.parse import parse_label_config
from tests.backend.serving import CONFIG
from tests.fakes import READY
from tests.label_config.configs import CAPTION, choices, view
from tests.limits import RUN_S

SCHEMA = parse_label_config(CONFIG)
OPTIONS = ProjectOptions()
PICTURE = Picture(1, 1, b"\0\0\0")


def test_the_version_names_model_and_quantisation_and_changes_with_the_weights() -> None:
    recipe = recipe_of(SCHEMA, OPTIONS, 256)
    version = recipe.version(READY)
    assert re.fullmatch(r"garments-nf4-[0-9a-f]{12}", version)
    assert recipe.version(replace(READY, load_s=99.0)) == version
    assert recipe.version(replace(READY, weights_id="other")) != version


@pytest.mark.parametrize(
    ("asked", "is_same"),
    [
        ({"season": {"instruction": "x"}}, True), ({"season": {"kind": "short"}}, True), ({"gone": {}}, True),
        ({"caption": {"instruction": "x"}}, True), ({"caption": {"kind": "short"}}, False),
        ({"caption": {"max_chars": 9}}, False),
    ],
)  # fmt: skip
def test_what_changes_no_field_leaves_the_schema_whose_fingerprint_is_known(
    asked: dict[str, Any], *, is_same: bool
) -> None:
    """Of the largest it takes a tenth of a second, on the loop."""
    options, warnings = read_options({"fields": asked}, OPTIONS)
    assert not warnings
    assert (recipe_of(SCHEMA, options, 256).schema is SCHEMA) is is_same


@pytest.mark.parametrize(
    "change",
    [
        {"language": "en"}, {"extra_instructions": "More."}, {"caption_min_length": 79}, {"caption_max_length": 121},
        {"temperature": 0.3}, {"top_p": 0.8}, {"max_new_tokens": 256}, {"review_threshold": 0.9},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_every_option_is_part_of_the_fingerprint(change: dict[str, object]) -> None:
    changed = recipe_of(SCHEMA, OPTIONS.model_copy(update=change), 256)
    assert changed.fingerprint != recipe_of(SCHEMA, OPTIONS, 256).fingerprint


def test_how_many_tasks_are_audited_changes_no_answer_and_no_version() -> None:
    audited = recipe_of(SCHEMA, OPTIONS.model_copy(update={"audit_share": 0.25}), 256)
    assert audited == recipe_of(SCHEMA, OPTIONS, 256)


def test_the_schema_and_the_picture_size_are_part_of_the_fingerprint() -> None:
    usual = recipe_of(SCHEMA, OPTIONS, 256).fingerprint
    assert recipe_of(replace(SCHEMA, image_key="other"), OPTIONS, 256).fingerprint != usual
    assert recipe_of(SCHEMA, OPTIONS, 257).fingerprint != usual
    assert recipe_of(replace(SCHEMA, warnings=("a tag was left out",)), OPTIONS, 256).fingerprint == usual


def test_the_fingerprint_is_the_same_in_every_process() -> None:
    code = """
import sys
from backend.predict.options import ProjectOptions, read_options
from backend.predict.recipe import recipe_of
from label_config.grammar import answer_grammar
from label_config.parse import parse_label_config
print(recipe_of(parse_label_config(sys.argv[1]), ProjectOptions(), 256).fingerprint)
"""
    command = [sys.executable, "-c", code, CONFIG]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S, check=True)
    assert done.stdout.strip() == recipe_of(SCHEMA, OPTIONS, 256).fingerprint


def test_the_request_carries_the_options_and_a_seed_made_from_the_picture() -> None:
    recipe = recipe_of(SCHEMA, OPTIONS.model_copy(update={"temperature": 0.3, "max_new_tokens": 99}), 256)
    request = recipe.request(PICTURE, "aa", interactive=True)
    assert (request.sampling.temperature, request.sampling.max_new_tokens) == (0.3, 99)
    assert request.interactive
    assert request.sampling.seed == recipe.request(PICTURE, "aa", interactive=False).sampling.seed
    assert request.sampling.seed != recipe.request(PICTURE, "ab", interactive=True).sampling.seed
    assert 0 <= request.sampling.seed < 2**32


EXTREMES: dict[str, list[Any]] = {
    "language": ["zh", "en"],
    "extra_instructions": ["", "好" * 2_000],
    "caption_min_length": [1, 1_000],
    "caption_max_length": [1, 1_000],
    "temperature": [0.0, 2.0],
    "top_p": [0.001, 1.0],
    "max_new_tokens": [16, 2_048],
    "review_threshold": [0.0, 1.0],
    "audit_share": [0.0, 0.5],
    "fields": [{}, {"caption": {"kind": "description", "max_chars": 8_000, "instruction": "好" * 500}}],
    "review_thresholds": [{}, {"category": 0.0, "season": 1.0}],
    "calibration": [{}, {"category": 0.25, "season": 20.0}],
}


def _extreme_options() -> Iterator[ProjectOptions]:
    """Every field at its ends; the lengths, which go together, in both languages."""
    assert EXTREMES.keys() == ProjectOptions.model_fields.keys()
    for name, values in EXTREMES.items():
        if not name.startswith("caption_"):
            yield from (ProjectOptions.model_validate({name: value}) for value in values)
    for language, low, high in product(["zh", "en"], [1, 1_000], [1, 800, 801, 1_000]):
        if low <= high:
            yield ProjectOptions.model_validate(
                {"language": language, "caption_min_length": low, "caption_max_length": high}
            )


@pytest.mark.parametrize(
    "options", list(_extreme_options()), ids=lambda o: str(o.model_dump(exclude_defaults=True))[:80]
)
def test_every_option_a_project_may_set_makes_a_prompt_and_a_grammar(options: ProjectOptions) -> None:
    request = recipe_of(SCHEMA, options, 256).request(PICTURE, "aa", interactive=False)
    grammar = answer_grammar(SCHEMA, text_max_chars=request.text_max_chars)
    assert LLMatcher.validate_grammar(grammar) == ""
    assert str(options.caption_max_length) in request.instruction
    assert options.extra_instructions in request.instruction
    assert request.text_max_chars >= options.caption_max_length


@pytest.mark.parametrize("name", [name for name, ends in EXTREMES.items() if isinstance(ends[1], int | float)])
def test_the_extremes_are_those_of_the_options(name: str) -> None:
    with pytest.raises(ValidationError):
        ProjectOptions.model_validate({"caption_max_length": 1_000, name: EXTREMES[name][1] + 1})


def test_short_captions_are_doubtful_only_where_longer_ones_were_asked_for() -> None:
    usual = recipe_of(SCHEMA, OPTIONS, 256).review_options
    short = OPTIONS.model_copy(update={"caption_min_length": 10, "caption_max_length": 20})
    assert usual.min_text_chars == 30
    assert recipe_of(SCHEMA, short, 256).review_options.min_text_chars == 10


def test_the_loaded_name_wins_then_the_remembered_then_the_setting(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "model.json")
    loading, loaded = EngineStatus("loading"), EngineStatus("ready", ready=READY)
    names = ModelNames(file, "auto", "")
    assert names.of(loading).model_name == "auto"
    assert names.of(loaded) == READY
    names.remember(READY)
    assert ModelNames(file, "auto", "").of(loading).model_name == "garments"
    assert ModelNames(file, "auto", "v2").of(loading).model_name == "auto"


def test_extra_params_change_single_fields() -> None:
    xml = view(CAPTION, choices("a", "b"), '<TextArea name="brand" toName="image" maxLength="20"/>')
    schema = parse_label_config(xml)
    asked = {
        "brand": {"instruction": "只写 logo 上的字", "max_chars": 12},
        "caption": {"kind": "short", "max_chars": 30},
        "style": {"instruction": "看领口"},
    }
    options, warnings = read_options({"fields": asked}, ProjectOptions())
    assert warnings == []
    recipe, plain = recipe_of(schema, options, 256), recipe_of(schema, ProjectOptions(), 256)
    assert "最多12字" in recipe.instruction
    assert "最多30字" in recipe.instruction
    assert "补充要求：只写 logo 上的字" in recipe.instruction
    assert "补充要求：看领口" in recipe.instruction
    assert "字的描述" not in recipe.instruction
    assert recipe.fingerprint != plain.fingerprint
    assert read_options(options.model_dump(), ProjectOptions())[0] == options, "as it is kept on the disk"


def test_a_longer_text_than_its_control_takes_is_not_asked_for() -> None:
    schema = parse_label_config(view('<TextArea name="brand" toName="image" maxLength="20"/>'))
    options, _ = read_options({"fields": {"brand": {"max_chars": 50}}}, ProjectOptions())
    assert "最多20字" in recipe_of(schema, options, 256).instruction


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"brand": {"instruktion": "x"}},
            "brand.instruktion: there is no such key; known are instruction, max_chars, kind",
        ),
        ({"brand": {"kind": "long"}}, "brand.kind: Input should be 'short' or 'description'"),
        ({"brand": "x"}, "brand"),
        ("brand", "fields: "),
        ({"brand": {"max_chars": 0}}, "brand.max_chars: "),
    ],
)
def test_what_is_wrong_with_the_options_of_a_field_is_said_by_its_name(fields: object, said: str) -> None:
    options, [warning] = read_options({"fields": fields}, ProjectOptions())
    assert said in warning
    assert options == ProjectOptions()


@pytest.mark.parametrize("change", [{"review_thresholds": {"season": 0.9}}, {"calibration": {"season": 2.5}}])
def test_how_answers_are_rated_is_part_of_the_version_but_not_of_what_is_asked(change: dict[str, Any]) -> None:
    plain = recipe_of(SCHEMA, OPTIONS, 256)
    options, warnings = read_options(change, OPTIONS)
    rated = recipe_of(SCHEMA, options, 256)

    assert warnings == []
    assert rated.version(READY) != plain.version(READY) == plain.answer_version(READY) == rated.answer_version(READY)
    assert rated.request(PICTURE, "1", interactive=False) == plain.request(PICTURE, "1", interactive=False)
    assert ProjectOptions.model_validate_json(options.model_dump_json()) == options


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"review_thresholds": {"season": 1.5}}, "season: Input should be less than or equal to 1"),
        ({"calibration": {"season": 0}}, "season: Input should be greater than or equal to 0.25"),
        ({"calibration": {"season": "hot"}}, "season: Input should be a valid number"),
        ({"calibration": 2}, "calibration: write an object with the names of fields"),
    ],
)
def test_a_value_that_cannot_be_is_named_with_its_field(change: dict[str, Any], said: str) -> None:
    options, warnings = read_options(change, OPTIONS)

    assert options == OPTIONS
    assert len(warnings) == 1
    assert said in warnings[0]
