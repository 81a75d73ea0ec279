"""What the `value` of an object tag shows of a task's data, by the rules of Label Studio's editor (1.23.2).

`$name`, `$item.url`, `$images[0]` and `$images.0` are one place in the data; anything else is a text in which every
such place is replaced by what stands there. A name may hold ASCII letters, digits, "_", ".", "[" and "]" (braces, too,
which no data has keys with). A key that is written as the whole of a name wins over the way down to it.
A *place* is such a value as a schema keeps it: without the "$" where it is one name, else the text.
Raises UnsupportedConfig for a value that the editor reads otherwise than it looks, or that shows no picture at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from label_config.errors import UnsupportedConfig

MAX_VALUE_CHARS = 500
MAX_NAMES = 10  # in a text, which is filled once for each task
MAX_FILLED_CHARS = 10_000  # of what all names but one stand for; one may be the picture itself
MAX_LISTS = 10  # in each other
MAX_NUMBER = 1e21  # from here on JavaScript writes an exponent; nobody means that in an address
MAX_ITEMS = 20  # of all lists that the names of a text stand for: ten names may stand for one list, in each task

_NAME = re.compile(r"\$([\w.\[\]{}]+)", re.ASCII)
_PATH = re.compile(r"\w+(?:\.\w+|\[\w+\])*", re.ASCII)
_STEP = re.compile(r"\w+", re.ASCII)
_MEANT_AS_NAME = re.compile(r"\$[\w\-.\[\]{}]+")
_PICTURE_SUFFIX = re.compile(r"\.(?:jpe?g|png|webp|gif|bmp|avif|tiff?)$", re.IGNORECASE)
_INDEX = re.compile(r"0|[1-9][0-9]{0,3}", re.ASCII)

_MISSING = object()


def checked_place(value: str) -> str:
    """The place that `value` names. Raises UnsupportedConfig with what to write instead."""
    if len(value) > MAX_VALUE_CHARS:  # it is read once for each task
        raise UnsupportedConfig(f"value has {len(value):,} characters; the limit is {MAX_VALUE_CHARS}.")
    names = [match[1] for match in _NAME.finditer(value)]
    whole = _NAME.fullmatch(value) is not None
    if not whole and _MEANT_AS_NAME.fullmatch(value):
        raise UnsupportedConfig(
            f'value="{value}" names no key for Label Studio\'s editor: after "$" it reads ASCII letters, digits and '
            f'"_" only, so it shows no picture. Rename the key in the tasks and write value="$image".'
        )
    if not names:
        raise UnsupportedConfig(
            f'needs value="$key", the task data key that holds one image, not "{value}", the same for every task.'
        )
    if len(names) > MAX_NAMES:
        raise UnsupportedConfig(f'value="{value}" takes {len(names)} keys of the task; the limit is {MAX_NAMES}.')
    for name in names:
        if not _PATH.fullmatch(name):
            braces = "{" in name or "}" in name
            reason = "braces are part of the key for Label Studio's editor" if braces else "a name in it is empty"
            raise UnsupportedConfig(f'value="{value}" cannot be read: {reason}. Write $key, $key.inner or $key[0].')
        if suffix := not whole and _PICTURE_SUFFIX.search(name):
            raise UnsupportedConfig(
                f'value="{value}" shows no picture: Label Studio\'s editor takes "{suffix[0]}" for a key inside '
                f'"{name.removesuffix(suffix[0])}". Put whole addresses into the tasks and write value="$image".'
            )
    return names[0] if whole else value


def place_warning(place: str) -> str:
    """What Label Studio's import says of tasks that its editor shows; "" if it says nothing."""
    if not is_text(place):
        if re.search(r"\.\d+(?:$|[.\[])", place):
            written = re.sub(r"\.(\d+)(?=$|[.\[])", r"[\1]", place)
            return f'value="${place}" is shown, but Label Studio cannot import such tasks: write value="${written}"'
        return ""
    if place.startswith("$"):
        return (
            f'value="{place}" is shown as a text with keys in it, but Label Studio imports only tasks that have a key '
            f'"{place[1:]}"'
        )
    return ""


def is_text(place: str) -> bool:
    """Whether it is a text with names in it, and no single name."""
    return "$" in place


def shown(place: str, data: Mapping[str, Any]) -> str | None:
    """The picture's address that the editor shows for `data`; None where it shows none, or none that anybody could
    mean: a few names may not make a text that is many times the data."""
    if is_text(place):
        items = iter(range(MAX_ITEMS))
        try:
            return _filled(place, lambda name: _text(_found(name, data), items))
        except _TooManyItems:
            return None
    value = _found(place, data)
    if isinstance(value, list) and value:  # of a list the editor shows the first; the others cannot be reached
        value = value[0]
    return value if isinstance(value, str) else None


def data_showing(place: str, address: str) -> dict[str, Any]:
    """Task data for which the editor shows `address`. Raises ValueError for a text, whose keys are not known."""
    if is_text(place):
        raise ValueError(place)
    value: Any = address
    for step in reversed(_STEP.findall(place)[1:]):
        value = [*([""] * int(step)), value] if _INDEX.fullmatch(step) else {step: value}
    return {_STEP.findall(place)[0]: value}


def described(place: str) -> str:
    """The value as the label config has it."""
    return place if is_text(place) else f"${place}"


@lru_cache(maxsize=1_000)
def _steps(name: str) -> tuple[str, ...]:
    return tuple(_STEP.findall(name))


@lru_cache(maxsize=1_000)
def _read(text: str) -> tuple[tuple[tuple[str, str], ...], str]:
    """Each name with what stands before it, and what stands after the last: a text is read once for all tasks."""
    found: list[tuple[str, str]] = []
    end = 0
    for match in _NAME.finditer(text):
        found.append((text[end : match.start()], match[1]))
        end = match.end()
    return tuple(found), text[end:]


def _found(name: str, data: Mapping[str, Any]) -> object:
    if name in data:
        return data[name]
    value: object = data
    for step in _steps(name):
        if isinstance(value, Mapping):
            value = value.get(step, _MISSING)
        elif isinstance(value, list) and _INDEX.fullmatch(step) and int(step) < len(value):
            value = value[int(step)]
        else:
            return _MISSING
    return value


def _filled(text: str, replacement: Callable[[str], str | None]) -> str | None:
    """None if a single name has no replacement: the editor would write "undefined" there."""
    names, tail = _read(text)
    parts: list[str] = []
    num_chars = longest = 0
    for before, name in names:
        new = replacement(name)
        if new is None:
            return None
        num_chars, longest = num_chars + len(new), max(longest, len(new))
        if num_chars - longest > MAX_FILLED_CHARS:
            return None
        parts += (before, new)
    return "".join((*parts, tail))


class _TooManyItems(Exception):
    pass


def _text(value: object, items: Iterator[int], max_lists: int = MAX_LISTS) -> str | None:
    """As JavaScript puts a JSON value into a text; None for what never is part of an address. Each item of a list takes
    one of `items`."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        if abs(value) >= MAX_NUMBER:
            return None
        return str(int(value) if isinstance(value, float) and value.is_integer() else value)
    if isinstance(value, list) and max_lists:
        texts: list[str] = []
        for item in value:
            if next(items, None) is None:
                raise _TooManyItems
            texts.append("" if item is None else _text(item, items, max_lists - 1) or "")
        return ",".join(texts)
    return None
