"""Load on a real `prelabel serve` with the built-in model: `python -m benchmarks.load [--quick] [--json FILE]`.

Scenes, all of them or those named with --scene:
health       /health, /setup and /webhook beside 10,000 tasks, a body of 50 MB and 100 hosts that never answer
interactive  one task alone, and beside a bulk of 10,000
projects     20 projects with different label configs at once
overload     500 predicts at once: who gets a 503, how soon, and what it leaves behind
store        the SQLite store with a million rows
throughput   tasks through HTTP and the store with an engine that answers at once

Each prints its figures beside their limits. With --check the command exits 1 if one does not hold.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.load_scenes import health, interactive, overload, projects, store, throughput
from benchmarks.load_scenes.figures import SceneReport, load_average
from benchmarks.report import hardware, write_json

Scene = Callable[[Path, bool], SceneReport]
SCENES: dict[str, Scene] = {
    "health": health.run,
    "interactive": interactive.run,
    "projects": projects.run,
    "overload": overload.run,
    "store": store.run,
    "throughput": throughput.run,
}


def main(arguments: Sequence[str] | None = None, scenes: Mapping[str, Scene] = SCENES) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", nargs="+", choices=list(scenes), default=list(scenes), help="only these")
    parser.add_argument("--quick", action="store_true", help="little of everything: to see that it works")
    parser.add_argument("--check", action="store_true", help="exit 1 if a limit does not hold")
    parser.add_argument("--json", type=Path, help="also write the figures here, into those that are there")
    args = parser.parse_args(arguments)
    print(hardware(), flush=True)
    reports = [measure(scenes[name], quick=args.quick) for name in args.scene]
    if args.json:
        measured = {**_scenes_in(args.json, quick=args.quick), **{r.name: r.document() for r in reports}}
        write_json(args.json, {"quick": args.quick, "scenes": measured})
    return 1 if args.check and not all(report.holds for report in reports) else 0


def measure(scene: Scene, *, quick: bool) -> SceneReport:
    """Run one scene in a folder of its own and print its table."""
    before = load_average()
    with tempfile.TemporaryDirectory() as folder:
        report = scene(Path(folder), quick)
    report = replace(report, load_average=(before, load_average()))
    report.print()
    return report


def _scenes_in(path: Path, *, quick: bool) -> dict[str, Any]:
    """What an earlier run of the same size wrote there."""
    document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return dict(document["scenes"]) if document.get("quick") is quick else {}


if __name__ == "__main__":
    sys.exit(main())
