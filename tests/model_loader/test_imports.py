"""What the package exports, and what it must never import."""

from __future__ import annotations

import subprocess
import sys

import pytest

import model_loader
from tests.limits import WAIT_S

FORBIDDEN = ("label_studio", "label_studio_sdk", "label_studio_ml", "label_config", "backend", "fastapi")
MODULES = ("checkpoint", "errors", "geometry", "hub", "memory", "progress", "saved", "sources")


def run_python(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_S, check=True)
    return done.stdout.splitlines()


def test_public_names_are_pinned() -> None:
    assert model_loader.__all__ == [
        "DownloadFailed",
        "LoadedModel",
        "MemoryPlan",
        "ModelError",
        "ModelFilesInvalid",
        "ModelNotFound",
        "ModelTooLarge",
        "UnsafeModelFiles",
        "UnsupportedModel",
        "choose_model",
        "load_model",
        "plan_memory",
        "register",
    ]
    assert all(getattr(model_loader, name) is not None for name in model_loader.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = model_loader.nothing


def test_planning_imports_no_torch_and_loading_knows_nothing_of_label_studio_or_the_backend() -> None:
    say = "print(*{name.partition('.')[0] for name in sys.modules})"
    light = ", ".join(("model_loader", *(f"model_loader.{module}" for module in MODULES)))
    planning, loading = map(str.split, run_python(f"import sys, {light}; {say}; import model_loader.loader; {say}"))
    assert "model_loader" in planning
    assert not {*planning} & {"torch", "transformers", "bitsandbytes", *FORBIDDEN}
    assert "torch" in loading
    assert not {*loading} & {*FORBIDDEN}
