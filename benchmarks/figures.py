"""Benchmarks in parts: figures with their units and, where there is one, the limit each has to stay within."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import hardware, options, percentile, print_table, write_part

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
        told = ["", ""] if self.limit is None else [_text(self.limit, self.unit), "yes" if self.holds else "NO"]
        return [self.name, _text(self.value, self.unit), *told]

    def document(self) -> dict[str, Any]:
        told: dict[str, Any] = {"value": self.value, "unit": self.unit}
        return told if self.limit is None else {**told, "limit": self.limit, "holds": self.holds}


@dataclass(frozen=True, slots=True)
class Part:
    """`about` says in one line what was done."""

    about: str
    figures: Sequence[Figure]


Measure = Callable[[Path, bool], Part]  # a folder of its own, and whether it is to be quick


def measure_parts(about: str | None, parts: Mapping[str, Measure], arguments: Sequence[str] | None) -> int:
    """The command of a benchmark in parts: measure each in a folder of its own, print its table, write it.

    Returns the exit code. The load average beside the figures is that of the whole machine (one minute).
    """
    parser = options(about)
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts), metavar="PART", help=", ".join(parts))
    parser.add_argument("--quick", action="store_true", help="little of everything: to see that it works")
    parser.add_argument("--check", action="store_true", help="exit 1 if a limit does not hold")
    args = parser.parse_args(arguments)
    print(hardware(), flush=True)
    hold = True
    for name in args.only:
        before = os.getloadavg()[0]
        with tempfile.TemporaryDirectory(prefix=name) as folder:
            part = parts[name](Path(folder), args.quick)
        load_average = [round(before, 1), round(os.getloadavg()[0], 1)]
        print(f"\n{name}: {part.about}\n")
        print_figures(part.figures)
        print("load average before and after: {}, {}".format(*load_average), flush=True)
        hold = hold and all(figure.holds for figure in part.figures)
        if args.json:
            figures = {figure.name: figure.document() for figure in part.figures}
            told = {"about": part.about, "load_average": load_average, "figures": figures}
            write_part(args.json, {"quick": args.quick}, name, told)
    return 0 if hold or not args.check else 1


def print_figures(figures: Sequence[Figure]) -> None:
    print_table(["", "measured", "limit", "holds"], [figure.row() for figure in figures])


def latencies(
    name: str,
    seconds: Sequence[float],
    *,
    p99: float | None = None,
    worst: float | None = None,
    p95: float | None = None,
) -> list[Figure]:
    """How often, then percentiles and the maximum of `seconds`; the limits are in seconds, too."""
    times = Figure(f"{name}: times", len(seconds))
    if not seconds:
        return [times]
    shares = (("p50", 0.5, None), ("p95", 0.95, p95), ("p99", 0.99, p99), ("max", 1.0, worst))
    return [times, *(Figure(f"{name}: {told}", percentile(seconds, s), "s", limit) for told, s, limit in shares)]


def _text(value: float, unit: str) -> str:
    if unit == "s":
        return f"{value * 1e3:.1f} ms" if value < 1 else f"{value:.2f} s"
    if unit == "bytes":
        return f"{value / MEBIBYTE:.1f} MiB"
    if unit == "share":
        return f"{value:.1%}"
    number = f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"
    return f"{number} {unit}".rstrip()
