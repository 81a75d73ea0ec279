"""What `label_config` must not bring along."""

from __future__ import annotations

import os
import subprocess
import sys

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
