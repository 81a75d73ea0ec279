"""HTML built so that nothing can be forgotten to escape: every text is escaped, unless it is `Markup` already.

Knows no page. Attribute names and tag names are the program's own, never input. Nothing here raises.
"""

from __future__ import annotations

from html import escape

_VOID = frozenset({"col", "img", "input", "link", "meta"})


class Markup(str):
    """Text that is HTML. Only `tag`, `join` and constants of the program make it."""

    __slots__ = ()


def tag(name: str, /, *children: str, **attributes: str | bool) -> Markup:
    """`tag("a", "text", href="…")`. `class_` is class, `data_key` is data-key; True has no value, False is left out."""
    given = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    shown = "".join(_attribute(key, value) for key, value in given)
    if name in _VOID:
        return Markup(f"<{name}{shown}>")
    return Markup(f"<{name}{shown}>{join(*children)}</{name}>")


def join(*children: str) -> Markup:
    return Markup("".join(child if isinstance(child, Markup) else escape(child) for child in children))


def _attribute(key: str, value: str | bool) -> str:
    if isinstance(value, bool):
        return f" {key}" if value else ""
    return f' {key}="{escape(value)}"'
