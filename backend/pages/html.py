"""The templates of `templates/` -> HTML. What they are given is escaped, whatever it is; only files of that folder are
markup. Nothing is loaded from elsewhere and nothing is built: style and script are put into the page itself.

Knows no data types. Raises jinja2's errors for a fault of a template: a name nobody gave is one.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream
from markupsafe import Markup

from backend.logs import one_line
from backend.pages.numbers import number, percent, roughly, seconds

TEMPLATES = Path(__file__).parent / "templates"

Template = Literal["status.html", "live.html", "report.html", "quality.html"]
Asset = Literal["style.css", "report.css", "quality.css", "script.js"]


class Layout(Extension):
    """Line breaks and indentation between tags are the template's own: a page has no space that was not written as
    one within a line. Within a tag or a text they stay."""

    _BREAK = re.compile(r"(?:^|(?<=>))\s*\n\s*|\s*\n\s*(?=<|\Z)")

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        for token in stream:
            yield token._replace(value=self._BREAK.sub("", token.value)) if token.type == "data" else token


def render(template: Template, **values: object) -> str:
    return environment().get_template(template).render(values)


@cache
def asset(name: Asset) -> Markup:
    """A file of ours, to stand in a page as it is."""
    return Markup((TEMPLATES / name).read_text("utf-8"))  # noqa: S704


def style(*names: Asset) -> Markup:
    """That of every page, and then these."""
    return Markup("").join(map(asset, ("style.css", *names)))


@cache
def environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        extensions=[Layout],
    )
    environment.filters |= {
        "number": number, "percent": percent, "roughly": roughly, "seconds": seconds, "one_line": one_line,
        "sha256": _sha256, "width": _width,
    }  # fmt: skip
    environment.globals["asset"] = asset
    return environment


def _sha256(text: str) -> str:
    """As a content security policy names a style."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _width(share: float) -> str:
    """A share of 1 as a length in SVG."""
    return f"{share * 100:.2f}".rstrip("0").rstrip(".") + "%"
