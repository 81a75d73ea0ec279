from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from backend.engine.api import EngineStatus
from backend.engine.messages import Picture, Ready
from backend.projects import ProjectOptions
from backend.recipe import ModelNames, recipe_of
from backend.state import StateFile
from label_config import parse_label_config
from tests.backend.serving import CONFIG
from tests.fakes import READY

SCHEMA = parse_label_config(CONFIG)
OPTIONS = ProjectOptions()
PICTURE = Picture(1, 1, b"\0\0\0")


def test_the_version_names_model_quantisation_and_fingerprint() -> None:
    recipe = recipe_of(SCHEMA, OPTIONS, 256)
    assert recipe.version(READY) == f"garments-nf4-{recipe.fingerprint}"
    odd = Ready("Org/Qwen3-VL 30B_A3B", "NF4 bf16", "cpu", 0, 0)
    assert recipe.version(odd) == f"org-qwen3-vl-30b-a3b-nf4-bf16-{recipe.fingerprint}"


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


def test_the_schema_and_the_picture_size_are_part_of_the_fingerprint() -> None:
    usual = recipe_of(SCHEMA, OPTIONS, 256).fingerprint
    assert recipe_of(replace(SCHEMA, image_key="other"), OPTIONS, 256).fingerprint != usual
    assert recipe_of(SCHEMA, OPTIONS, 257).fingerprint != usual
    assert recipe_of(replace(SCHEMA, warnings=("a tag was left out",)), OPTIONS, 256).fingerprint == usual


def test_the_fingerprint_is_the_same_in_every_process() -> None:
    code = """
import sys
from backend.projects import ProjectOptions
from backend.recipe import recipe_of
from label_config import parse_label_config
print(recipe_of(parse_label_config(sys.argv[1]), ProjectOptions(), 256).fingerprint)
"""
    command = [sys.executable, "-c", code, CONFIG]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == recipe_of(SCHEMA, OPTIONS, 256).fingerprint


def test_the_request_carries_the_options_and_a_seed_made_from_the_picture() -> None:
    recipe = recipe_of(SCHEMA, OPTIONS.model_copy(update={"temperature": 0.3, "max_new_tokens": 99}), 256)
    request = recipe.request(PICTURE, "aa", interactive=True)
    assert (request.sampling.temperature, request.sampling.max_new_tokens) == (0.3, 99)
    assert request.interactive
    assert request.sampling.seed == recipe.request(PICTURE, "aa", interactive=False).sampling.seed
    assert request.sampling.seed != recipe.request(PICTURE, "ab", interactive=True).sampling.seed
    assert 0 <= request.sampling.seed < 2**32


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
