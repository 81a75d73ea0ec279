from __future__ import annotations

import subprocess
import sys

MODULES = (
    "backend.app", "backend.service", "backend.settings", "backend.projects", "backend.model", "backend.runtime",
    "backend.commands.serve", "backend.cli", "backend.images", "backend.engine.client",
    "backend.status.routes", "backend.commands.status", "backend.commands.annotate_many",
)  # fmt: skip


def test_the_api_process_imports_no_torch() -> None:
    """The model lives in the engine's process; torch here would cost seconds and hundreds of megabytes."""
    code = f"""
import importlib, sys
for name in {MODULES}:
    importlib.import_module(name)
    found = [heavy for heavy in ("torch", "transformers", "bitsandbytes") if heavy in sys.modules]
    assert not found, (name, found)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
