"""Bars and histograms in plain HTML and SVG: no script and no style attributes, so the page's policy can forbid both.

A screen reader finds a table or a sentence. Knows nothing of runs. Nothing here raises.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from backend.bulk.report.numbers import Bin
from backend.bulk.report.texts import percent
from backend.pages.markup import Markup, tag
from backend.pages.words import number

_LEAST_PCT = 0.8
"""One picture in 50,000 is still a line one can see."""
_GAP_PCT = 12.0
"""Of a histogram's bin, between two bars."""


@dataclass(frozen=True, slots=True)
class Bar:
    """`name` may be Markup. `share` (0..1) is told beside it. `kind` is a class: "" a label, "rest" what is none."""

    name: str
    num: int
    share: float
    kind: str = ""


def bars(rows: Sequence[Bar], heads: tuple[str, str, str]) -> Markup:
    """A table of name, bar, number and share; the longest bar is the full width. `heads` name the columns."""
    most = max((row.num for row in rows), default=0)
    lines = [
        tag(
            "tr",
            tag("th", row.name, scope="row"),
            tag("td", _bar(row.num / most if most else 0.0)),
            tag("td", number(row.num), class_="num"),
            tag("td", percent(row.share), class_="num soft"),
            class_=row.kind or False,
        )
        for row in rows
    ]
    head = tag(
        "tr", tag("th", heads[0], scope="col"), tag("td"), tag("th", heads[1], scope="col"),
        tag("th", heads[2], scope="col"),
    )  # fmt: skip
    columns = (tag("col", class_=name) for name in ("name", "line", "num", "share"))
    return tag(
        "table", tag("colgroup", *columns), tag("thead", head, class_="unseen"), tag("tbody", *lines), class_="bars"
    )


def histogram(bins: Sequence[Bin], name: Callable[[Bin], str], ends: tuple[str, ...], told: str) -> Markup:
    """`name` says what a bin and its bar mean, `ends` stand below the axis, evenly; `told` is the whole in words."""
    most = max((found.num for found in bins), default=0)
    width = 100 / len(bins) if bins else 0.0
    shapes: list[Markup] = []
    for index, found in enumerate(bins):
        height = max(found.num / most * 100, _LEAST_PCT * 2) if found.num else 0.0
        left, wide = _pct(index * width), _pct(width)
        gap = width * _GAP_PCT / 100
        bar = tag(
            "rect", class_="in", x=_pct(index * width + gap / 2), y=_pct(100 - height), width=_pct(width - gap),
            height=_pct(height),
        )  # fmt: skip
        # The whole column answers the pointer, not only its bar.
        column = tag("rect", class_="column", x=left, y="0", width=wide, height="100%")
        shapes.append(tag("g", tag("title", name(found)), column, bar))
    return tag(
        "figure",
        tag("svg", *shapes, class_="histogram", role="img", aria_label=told),
        tag("figcaption", *(tag("span", end) for end in ends), aria_hidden="true"),
    )


def stacked(parts: Sequence[tuple[str, str, int]]) -> Markup:
    """One bar of (kind, name, number) side by side, with a legend."""
    total = sum(num for *_, num in parts)
    start = 0.0
    shapes: list[Markup] = []
    legend: list[Markup] = []
    for kind, name, num in parts:
        share = num / total if total else 0.0
        shapes.append(tag("rect", class_=f"p-{kind}", x=_pct(start * 100), width=_pct(share * 100), height="100%"))
        legend.append(tag("li", tag("i", class_=f"d-{kind}"), name, tag("b", percent(share))))
        start += share
    told = ", ".join(f"{name} {percent(num / total if total else 0.0)}" for _, name, num in parts)
    return tag(
        "div", tag("svg", *shapes, class_="bar", role="img", aria_label=told), tag("ul", *legend, class_="legend"),
    )  # fmt: skip


def _bar(share: float) -> Markup:
    shape = tag("rect", width=_pct(max(share * 100, _LEAST_PCT)), height="100%") if share else ""
    return tag("svg", shape, class_="line", aria_hidden="true")


def _pct(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") + "%"
