"""What the package exports, and what it must never import."""

from __future__ import annotations

import subprocess
import sys

import pytest

import model_loader

FORBIDDEN = ("label_studio", "label_studio_sdk", "label_studio_ml", "label_config", "backend", "fastapi")
MODULES = ("checkpoint", "errors", "geometry", "hub", "memory", "progress", "saved", "sources")


def imported_by(*modules: str) -> set[str]:
    code = f"import sys, {', '.join(modules)}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=250, check=True)
    return set(done.stdout.split())


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


def test_planning_and_checking_import_no_torch() -> None:
    names = imported_by("model_loader", *(f"model_loader.{module}" for module in MODULES))
    assert "model_loader" in names
    assert not names & {"torch", "transformers", "bitsandbytes", *FORBIDDEN}


def test_loader_knows_nothing_of_label_studio_or_the_backend() -> None:
    names = imported_by("model_loader.loader")
    assert "torch" in names
    assert not names & set(FORBIDDEN)
