"""What the package must never import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import model_loader
from tests.limits import RUN_S

PACKAGE = Path(model_loader.__file__).parent
LOADER = sorted([*PACKAGE.glob("*.py"), *PACKAGE.glob("experts/*.py")])  # not garments/, which trains a model
FORBIDDEN = ("label_studio", "label_studio_sdk", "label_studio_ml", "label_config", "backend", "fastapi")
MODULES = ("checkpoint", "errors", "geometry", "hub", "memory", "progress", "saved", "sources")


def test_planning_and_checking_import_no_torch() -> None:
    modules = ", ".join(("model_loader", *(f"model_loader.{module}" for module in MODULES)))
    code = f"import sys, {modules}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=RUN_S, check=True)
    names = {*done.stdout.split()}
    assert "model_loader" in names
    assert not names & {"torch", "transformers", "bitsandbytes", *FORBIDDEN}


@pytest.mark.parametrize("file", LOADER, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_module_of_the_loader_knows_of_label_studio_or_the_backend(file: Path) -> None:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.partition(".")[0])
    assert not imported & {*FORBIDDEN}
