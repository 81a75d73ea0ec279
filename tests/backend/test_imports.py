from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "backend.app", "backend.service", "backend.settings", "backend.projects", "backend.model", "backend.runtime",
        "backend.commands.serve", "backend.cli", "backend.images", "backend.engine.client",
    ],
)  # fmt: skip
def test_the_api_process_imports_no_torch(module: str) -> None:
    """The model lives in the engine's process; torch here would cost seconds and hundreds of megabytes."""
    code = f"import sys, {module}; print([m for m in ('torch', 'transformers', 'bitsandbytes') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
