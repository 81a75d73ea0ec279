"""The label configs that come with the package, by name: `ecommerce.zh`, `ecommerce.en`, `garments.zh`, `garments.en`.

Knows no files outside the package. Raises UnsupportedConfig for a name it does not have.
"""

from __future__ import annotations

from importlib.resources import files

from label_config.errors import UnsupportedConfig

_FOLDER = files("label_config") / "taxonomies"
_SUFFIX = ".xml"


def ready_made_names() -> tuple[str, ...]:
    """The names, sorted."""
    return tuple(sorted(f.name.removesuffix(_SUFFIX) for f in _FOLDER.iterdir() if f.name.endswith(_SUFFIX)))


def ready_made(name: str) -> str:
    """The XML of the ready-made label config called `name`."""
    if name not in ready_made_names():
        raise UnsupportedConfig(
            f"There is no ready-made label config {name!r}; there are {', '.join(ready_made_names())}."
        )
    return (_FOLDER / f"{name}{_SUFFIX}").read_text(encoding="utf-8")
