"""Settings of the hub's library that it knows by several names: which of them it heeds here, for what is told of it."""

from __future__ import annotations

import os

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
TOKEN = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
CACHE = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME")


def heeded(names: tuple[str, ...]) -> str:
    """The first that is set, as the library takes them; "" where none is."""
    return next((name for name in names if os.environ.get(name)), "")
