"""What a person typed as extra params becomes the options of a project, and what cannot be used is said."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from backend.predict.options import (
    MAX_NAMED_FIELDS,
    MAX_UNKNOWN,
    MAX_VALUES,
    ProjectOptions,
    default_options,
    read_options,
    still_asks_for,
)
from backend.settings import load_settings

DEFAULTS = ProjectOptions()


def test_extra_params_change_what_they_name_and_nothing_else() -> None:
    options, warnings = read_options({"language": "en", "temperature": 0.2}, DEFAULTS)
    assert (options.language, options.temperature, options.top_p) == ("en", 0.2, 0.9)
    assert warnings == []


@pytest.mark.parametrize("nothing", [None, {}, "", "  "], ids=repr)
def test_no_extra_params_mean_the_defaults(nothing: Any) -> None:
    assert read_options(nothing, DEFAULTS)[0] == DEFAULTS


def test_extra_params_may_be_json_text() -> None:
    assert read_options('{"top_p": 0.5}', DEFAULTS)[0].top_p == 0.5


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        pytest.param({"temprature": 1}, "did you mean temperature", id="misspelt key"),
        pytest.param({"colour": 1}, "no such extra param", id="unknown key"),
        pytest.param({"temperature": 9}, "temperature", id="out of range"),
        pytest.param({"temperature": float("nan")}, "temperature", id="not a number"),
        pytest.param({"language": "fr"}, "language", id="unknown language"),
        pytest.param({"max_new_tokens": "many"}, "max_new_tokens", id="word for a number"),
        pytest.param({"extra_instructions": "x" * 5000}, "extra_instructions", id="too long a text"),
        pytest.param({"caption_min_length": 200}, "larger than caption_max_length", id="lengths crossed"),
        pytest.param([1], "must be an object", id="list"),
        pytest.param(7, "must be an object", id="number"),
        pytest.param({"fields": {"\udc00": {"instruction": "x"}}}, "unicode", id="half a character in a field's name"),
        pytest.param({"calibration": {"a\ud800": 1}}, "unicode", id="half a character in a calibrated field's name"),
        pytest.param({"review_thresholds": {"\ud800": 1}}, "unicode", id="half a character beside a threshold"),
        pytest.param({"\ud800": 1}, "\\ud800", id="half a character in a key"),
        pytest.param({"extra_instructions": "\ud800"}, "unicode", id="half a character in a text"),
        pytest.param({"fields": {"x" * 201: {}}}, "at most 200 characters", id="a longer name than any control has"),
        pytest.param("{", "not JSON", id="broken JSON"),
        pytest.param("[" * 5000, "not JSON", id="deep JSON"),
    ],
)
def test_what_cannot_be_used_is_a_warning_and_the_rest_applies(extra: Any, said: str) -> None:
    if isinstance(extra, dict):
        extra = {**extra, "top_p": 0.5}
    options, warnings = read_options(extra, DEFAULTS)
    assert said in " ".join(warnings)
    assert options.model_copy(update={"top_p": 0.9}) == DEFAULTS
    if isinstance(extra, dict):
        assert options.top_p == 0.5


TYPED: list[Any] = [
    None, {}, "", '{"language": "en"}', {"language": "en"}, {"language": "zh"}, {"language": "fr", "top_p": 2},
    {"caption_min_length": 20}, {"caption_min_length": 200}, {"extra_instructions": " Name the material.\n"},
    {"review_threshold": 0.7}, {"review_thresholds": {"b": 0.5, "a": "0.25"}}, {"calibration": {"a": 2}},
    {"fields": {"brand": {"instruction": "x"}}}, {"temperature": "0"},
]  # fmt: skip  # fmt: skip


@pytest.mark.parametrize("typed", TYPED, ids=repr)
@pytest.mark.parametrize(
    "settings",
    [{}, {"language": "en"}, {"review_threshold": 0.8}, {"language": "en", "review_threshold": 0.0}],
    ids=repr,
)
def test_what_is_typed_yet_asks_for_the_options_it_asked_for_whatever_the_servers_settings_are(
    typed: Any, settings: dict[str, Any]
) -> None:
    """A command may have others, and knows the options as the store has them."""
    options, _ = read_options(typed, default_options(load_settings(settings)))
    kept = ProjectOptions.model_validate_json(options.model_dump_json())

    assert still_asks_for(typed, kept)
    assert still_asks_for(typed, kept.model_copy(update={"audit_share": 0.5}))


@pytest.mark.parametrize(("before", "now"), list(itertools.permutations([*TYPED[6:10], *TYPED[11:]], 2)), ids=repr)
def test_what_is_typed_now_asks_for_other_options_than_something_else_did(before: Any, now: Any) -> None:
    """A review_threshold that was taken out may be the server's own: it changes no answer and no score."""
    options, _ = read_options(before, DEFAULTS)
    assert still_asks_for(now, options) == (read_options(now, DEFAULTS)[0] == options)


def test_of_many_unknown_keys_a_few_are_named_and_the_others_counted() -> None:
    options, warnings = read_options({f"{n}temperature" * 20: n for n in range(MAX_UNKNOWN + 1_000)}, DEFAULTS)
    assert options == DEFAULTS
    assert len(warnings) == MAX_UNKNOWN + 1
    assert warnings[-1] == "and 1,000 more extra params that there are not"
    assert max(map(len, warnings)) < 500


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param("fields", {"c": dict.fromkeys(map(str, range(MAX_VALUES)), 1)}, id="keys that there are not"),
        pytest.param("fields", {str(n): {"kind": "x"} for n in range(MAX_VALUES)}, id="fields that say nothing right"),
        pytest.param("review_thresholds", dict.fromkeys(map(str, range(MAX_VALUES + 1)), "x"), id="no numbers"),
        pytest.param("calibration", [["c", 1.0]] * MAX_VALUES, id="pairs"),
        pytest.param("extra_instructions", [[[1] * MAX_VALUES]], id="lists in lists"),
    ],
)
@pytest.mark.parametrize("as_text", [False, True])
def test_of_one_extra_param_so_many_values_are_read_and_the_others_apply(
    key: str, value: object, *, as_text: bool
) -> None:
    extra = {key: value, "top_p": 0.5}
    options, [said] = read_options(json.dumps(extra) if as_text else extra, DEFAULTS)
    assert said.startswith(f"{key}: it holds more than {MAX_VALUES} values; ")
    assert options == DEFAULTS.model_copy(update={"top_p": 0.5})


def test_all_that_may_be_said_of_all_fields_is_read() -> None:
    names = [f"f{n}" for n in range(MAX_NAMED_FIELDS)]
    asked = {"instruction": "a, b", "kind": "short", "max_chars": 9}
    extra = {"fields": dict.fromkeys(names, asked), "review_thresholds": dict.fromkeys(names, 0.5)}
    assert read_options({**extra, "calibration": dict.fromkeys(names, 2.0)}, DEFAULTS)[1] == []
