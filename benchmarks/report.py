"""What the benchmarks share: figures with their limits, tables, the command that measures part by part, and its file.

A figure that has no limit is only told. What a file holds of other parts, measured in the same size, is kept.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

MEBIBYTE = 2**20
WIDE = 160


@dataclass(frozen=True, slots=True)
class Figure:
    """`value` must not exceed `limit`."""

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


Measure = Callable[[Path, bool], Part]  # a folder of its own, and whether it is to be small


def measure_parts(about: str | None, parts: Mapping[str, Measure], arguments: Sequence[str] | None) -> int:
    """The command of a benchmark: measure each part in a folder of its own, print its table, write it.

    Returns the exit code: 1 if a limit does not hold. The load average beside the figures is that of the whole machine
    (one minute).
    """
    parser = options(about)
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts), metavar="PART", help=", ".join(parts))
    parser.add_argument("--small", action="store_true", help="little of everything: to see that it works")
    args = parser.parse_args(arguments)
    print(hardware(), flush=True)
    hold = True
    for name in args.only:
        before = os.getloadavg()[0]
        with tempfile.TemporaryDirectory(prefix=name) as folder:
            part = parts[name](Path(folder), args.small)
        load_average = [round(before, 1), round(os.getloadavg()[0], 1)]
        print(f"\n{name}: {part.about}")
        print_table(["", "measured", "limit", "holds"], [figure.row() for figure in part.figures])
        print("load average before and after: {}, {}".format(*load_average), flush=True)
        hold = hold and all(figure.holds for figure in part.figures)
        if args.json:
            figures = {figure.name: figure.document() for figure in part.figures}
            told = {"about": part.about, "load_average": load_average, "figures": figures}
            _write_part(args.json, args.small, name, told)
    return 0 if hold else 1


def options(about: str | None) -> argparse.ArgumentParser:
    """With the options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return parser


def latencies(name: str, seconds: Sequence[float], **limits: float) -> list[Figure]:
    """How often, then p50, p95, p99 and max of `seconds`; `limits` of these, in seconds, too."""
    times = Figure(f"{name}: times", len(seconds))
    if not seconds:
        return [times]
    shares = {"p50": 50, "p95": 95, "p99": 99, "max": 100}
    values = {told: percentile(seconds, share) for told, share in shares.items()}
    return [times, *(Figure(f"{name}: {told}", value, "s", limits.get(told)) for told, value in values.items())]


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least so many of `values` do not exceed."""
    return float(np.percentile(values, percent, method="inverted_cdf"))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text, the first column left, the others right aligned."""
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    table = Table(box=None)
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def use_threads(num: int) -> None:
    """Torch threads, of this process and of those it starts."""
    os.environ["OMP_NUM_THREADS"] = str(num)
    torch.set_num_threads(num)


def wait_until(condition: Callable[[], bool], timeout_s: float, every_s: float = 0.1) -> bool:
    """Whether `condition` came true in time."""
    until = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(every_s)
    return True


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_part(path: Path, small: bool, name: str, figures: dict[str, Any]) -> None:
    document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    kept = document["parts"] if document.get("small") is small else {}
    write_json(path, {"small": small, "parts": {**kept, name: {**taken_on(), **figures}}})


def hardware() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {len(names) or '?'} cores"


def taken_on() -> dict[str, str]:
    """When, on what and with which code."""
    date = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    return {"date": date, "hardware": hardware(), "torch": torch.__version__, "made_by_commit": _commit()}


@cache
def _commit() -> str:
    """Of this checkout, with "-dirty" where a file was changed since, as far as git can tell."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
    except OSError:
        return "unknown"


def _text(value: float, unit: str) -> str:
    if unit == "s":
        return f"{value * 1e3:.1f} ms" if value < 1 else f"{value:.2f} s"
    if unit == "bytes":
        return f"{value / MEBIBYTE:.1f} MiB"
    if unit == "share":
        return f"{value:.1%}"
    number = f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"
    return f"{number} {unit}".rstrip()
