"""What a scene reports: figures with their units and, where there is one, the limit each has to stay within."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.report import percentile, print_table

MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class Figure:
    """`value` must not exceed `limit`; None: it is only told."""

    name: str
    value: float
    unit: str = ""
    limit: float | None = None

    @property
    def holds(self) -> bool:
        return self.limit is None or self.value <= self.limit

    def row(self) -> list[str]:
        limit = "" if self.limit is None else _text(self.limit, self.unit)
        return [self.name, _text(self.value, self.unit), limit, "" if self.limit is None else _yes_or_no(self.holds)]

    def document(self) -> dict[str, Any]:
        told: dict[str, Any] = {"value": self.value, "unit": self.unit}
        return told if self.limit is None else {**told, "limit": self.limit, "holds": self.holds}


@dataclass(frozen=True, slots=True)
class SceneReport:
    """`about` says in one line what was done. `load_average`: of the whole machine, before and after (one minute)."""

    name: str
    about: str
    figures: tuple[Figure, ...]
    load_average: tuple[float, float] = (0.0, 0.0)

    @property
    def holds(self) -> bool:
        return all(figure.holds for figure in self.figures)

    def print(self) -> None:
        print(f"\n{self.name}: {self.about}\n")
        print_table(["", "measured", "limit", "holds"], [figure.row() for figure in self.figures])
        print("load average before and after: {:.1f}, {:.1f}".format(*self.load_average), flush=True)

    def document(self) -> dict[str, Any]:
        return {
            "about": self.about,
            "load_average": self.load_average,
            "figures": {figure.name: figure.document() for figure in self.figures},
        }


def load_average() -> float:
    return round(os.getloadavg()[0], 1)


def latencies(
    name: str,
    seconds: Sequence[float],
    *,
    p95: float | None = None,
    p99: float | None = None,
    worst: float | None = None,
) -> list[Figure]:
    """How often, then percentiles and the maximum of `seconds`; the limits are in seconds, too."""
    if not seconds:
        return [Figure(f"{name}: times", 0)]
    return [
        Figure(f"{name}: times", len(seconds)),
        Figure(f"{name}: p50", percentile(seconds, 0.5), "s"),
        Figure(f"{name}: p95", percentile(seconds, 0.95), "s", p95),
        Figure(f"{name}: p99", percentile(seconds, 0.99), "s", p99),
        Figure(f"{name}: max", max(seconds), "s", worst),
    ]


def _text(value: float, unit: str) -> str:
    if unit == "s":
        return f"{value * 1e3:.1f} ms" if value < 1 else f"{value:.2f} s"
    if unit == "bytes":
        return f"{value / MEBIBYTE:.1f} MiB"
    number = f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"
    return f"{number} {unit}".rstrip()


def _yes_or_no(holds: bool) -> str:
    return "yes" if holds else "NO"
