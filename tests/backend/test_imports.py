"""What a process must not import at its start: each costs seconds, paid again by every child and every command."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "bitsandbytes", "ray", "pandas", "label_studio_sdk", "label_studio_ml")
API = (
    "backend.api.app", "backend.api.plugin_runtime", "backend.queue.service", "backend.predict.options",
    "backend.commands.serve", "backend.cli", "backend.images", "backend.engine.client", "backend.label_studio.client",
    "backend.api.status_pages", "backend.commands.status", "backend.commands.annotate_many", "backend.commands.connect",
)  # fmt: skip
TORCH = ("torch", "transformers", "bitsandbytes")
SERVER = ("fastapi", "httpx", "pydantic", "prometheus_client", "PIL", "llguidance", "numpy", "jinja2")


@pytest.mark.parametrize(
    ("modules", "forbidden"),
    [
        pytest.param(API, HEAVY, id="the API process: no model, no SDK"),
        pytest.param(("backend.api.plugin",), TORCH, id="label-studio-ml's plug-in: no model"),
        pytest.param(("backend.cli",), (*HEAVY, *SERVER), id="prelabel --help: no server"),
        pytest.param(
            ("backend.commands.status",), (*HEAVY, "fastapi", "PIL", "llguidance", "jinja2"), id="prelabel status"
        ),
    ],
)
def test_a_process_imports_only_what_it_needs(modules: tuple[str, ...], forbidden: tuple[str, ...]) -> None:
    code = f"""
import importlib, sys
for name in {modules}:
    importlib.import_module(name)
    found = [heavy for heavy in {forbidden} if heavy in sys.modules]
    assert not found, (name, found)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
