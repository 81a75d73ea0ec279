"""Ready-made Label Studio label configs, as XML text to paste into a project or to create one from."""

from __future__ import annotations

from importlib.resources import files

NAMES = ("ecommerce.zh", "ecommerce.en", "garments.zh", "garments.en")


def ready_made(name: str) -> str:
    """Return the label config called `name`, one of NAMES. Raises KeyError, which names the known ones."""
    if name not in NAMES:
        raise KeyError(f"No ready-made label config {name!r}; there are {', '.join(NAMES)}.")
    return (files(__name__) / f"{name}.xml").read_text(encoding="utf-8")
