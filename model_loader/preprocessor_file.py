"""preprocessor_config.json of a checkpoint that anybody may have written: how pictures become numbers.

transformers makes an attribute of whatever stands there, over its own methods too, and takes numbers as they are: a
deviation of 0 or a text would show as pictures that cannot be read, each for itself. So what is not listed is left out,
and a value that no model has is refused by name.
Raises ModelFilesInvalid.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from model_loader.errors import ModelFilesInvalid
from model_loader.json_text import read_object

_MAX_SIDE = 2**20
_MAX_PIXELS = 2**40
_MAX_PART = 1_000
Rule = tuple[Callable[[Any], bool], str]


def _whole(largest: int) -> Rule:
    return lambda value: type(value) is int and 0 < value <= largest, f"a whole number from 1 to {largest:,}"


def _three(least: float) -> Rule:
    return (
        lambda value: isinstance(value, list) and len(value) == 3 and all(_within(one, least) for one in value),
        f"three numbers from {least:g} to {_MAX_PART:,}",
    )


def _within(value: Any, least: float) -> bool:
    return type(value) in (int, float) and least <= value <= _MAX_PART and math.isfinite(value)


_FLAG: Rule = (lambda value: isinstance(value, bool), "true or false")
_KNOWN: dict[str, Rule] = {
    **dict.fromkeys(("do_convert_rgb", "do_normalize", "do_rescale", "do_resize"), _FLAG),
    **dict.fromkeys(("patch_size", "merge_size", "temporal_patch_size"), _whole(_MAX_SIDE)),
    **dict.fromkeys(("min_pixels", "max_pixels"), _whole(_MAX_PIXELS)),
    "image_mean": _three(-_MAX_PART),
    "image_std": _three(1e-6),
    "rescale_factor": (lambda value: _within(value, 1e-9) and value <= 1, "a number above 0, up to 1"),
    "resample": (lambda value: type(value) is int and 0 <= value <= 5, "a whole number from 0 to 5"),
    "size": (lambda value: isinstance(value, dict), "an object with longest_edge and shortest_edge"),
}
_SIZE = dict.fromkeys(("longest_edge", "shortest_edge"), _whole(_MAX_PIXELS))


def read_preprocessor(file: Path) -> dict[str, Any]:
    """What `file` says of pictures. Raises OSError, too."""
    known = _checked(read_object(file), _KNOWN)
    if "size" in known:
        size = _checked(known.pop("size"), _SIZE, "size.")
        known |= {"size": size} if len(size) == len(_SIZE) else {}
    return known


def _checked(values: dict[str, Any], rules: dict[str, Rule], place: str = "") -> dict[str, Any]:
    known = {name: value for name, value in values.items() if name in rules and value is not None}
    for name, value in known.items():
        holds, words = rules[name]
        if not holds(value):
            raise ModelFilesInvalid(
                f"preprocessor_config.json: {place}{name} must be {words}, got {repr(value)[:40]}; use the file that "
                "belongs to this model"
            )
    return known
