"""What every benchmark shares: its options, tables, percentiles, and figures as JSON with what they were taken on."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch


def options(about: str | None) -> argparse.ArgumentParser:
    """With the options that all of them have."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return parser


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


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of `values` do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-len(ordered) * share // 1) - 1))]


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text, the first column left, the others right aligned."""
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *others in lines:
        print("  ".join([first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]))


def write_json(path: Path, figures: dict[str, Any]) -> None:
    """Write `figures` with what they were taken on."""
    _write(path, {**_taken_on(), **figures})


def write_part(path: Path, conditions: dict[str, Any], name: str, figures: dict[str, Any]) -> None:
    """Write the part `name` into those that `path` has of runs under the same conditions."""
    document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    kept = document["parts"] if all(document.get(key) == value for key, value in conditions.items()) else {}
    _write(path, {**conditions, "parts": {**kept, name: {**_taken_on(), **figures}}})


def _write(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def hardware() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {len(names) or '?'} cores"


def _taken_on() -> dict[str, str]:
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
