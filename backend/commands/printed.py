"""Texts from elsewhere (titles, labels, names of fields and files) as a terminal shows them."""

from __future__ import annotations

from rich.markup import escape

from backend.logs import one_line


def printed(text: str) -> str:
    """For `console.print`: no markup, and on one line without what a terminal would obey (colours, titles, erasing)."""
    return escape(one_line(text))
