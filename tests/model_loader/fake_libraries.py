"""The hubs' libraries, as they are asked for a model: what they say or raise is a test's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from model_loader.checkpoint import SINGLE_NAME


def modelscope(monkeypatch: pytest.MonkeyPatch, snapshot_download: Callable[..., str]) -> None:
    monkeypatch.setitem(sys.modules, "modelscope", SimpleNamespace(snapshot_download=snapshot_download))


class NotAllFiles(Exception):
    """As modelscope has it: its text only counts them."""

    def __init__(self) -> None:
        super().__init__("1 of 9 file(s) failed to download from a/b@master")
        self.failed_files = {SINGLE_NAME: OSError(28, "No space left on device")}


def raising(error: Exception) -> Callable[..., str]:
    def snapshot_download(*repo: str, **options: Any) -> str:
        raise error

    return snapshot_download
