"""What `label_config` offers, and what it must not bring along."""

from __future__ import annotations

import os
import subprocess
import sys

import label_config

PUBLIC = """
Answer Choice ChoicesField Field FieldAnswer FieldValue Finding LabelSchema Language MalformedAnswer NumberField
PathChoicesField PromptOptions RatingField ReviewControls ReviewOptions ShortTextField SupportedTag
TaxonomyField TaxonomyNode TextField
UnsupportedConfig answer_grammar answer_to_regions build_instruction parse_answer parse_label_config prediction
ready_made ready_made_names regions_to_answer render_answer review supported_tags text_slices
unlisted_fields
"""

HEAVY = [
    "torch",
    "transformers",
    "llguidance",
    "httpx",
    "requests",
    "urllib3",
    "PIL",
    "label_studio_sdk",
    "socket",
    "ssl",
]


def test_the_public_names_are_these() -> None:
    assert label_config.__all__ == PUBLIC.split()
    assert all(hasattr(label_config, name) for name in label_config.__all__)


def test_importing_every_module_brings_no_model_and_no_network() -> None:
    code = f"""
import importlib, pkgutil, sys
import label_config
for module in pkgutil.walk_packages(label_config.__path__, "label_config."):
    importlib.import_module(module.name)
print([name for name in {HEAVY} if name in sys.modules])
"""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}  # it imports, too
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=plain)
    assert done.stdout.strip() == "[]"
