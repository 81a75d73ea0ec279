"""Load on a real `prelabel serve` with the built-in model: `python -m benchmarks.load [--small] [--json FILE]`.

Scenes, all of them or those named with --only:
health       /health, /setup and /webhook beside 10,000 tasks, a body of 50 MB and 100 hosts that never answer
interactive  one task alone, and beside a bulk of 10,000
projects     20 projects with different label configs at once
configs      an innocent project beside 50 clients with hostile label configs
overload     500 predicts while every place is taken: how soon each hears its 503
store        the SQLite store with a million rows
throughput   tasks through HTTP and the store with an engine that answers at once

Each prints its figures beside their limits. The command exits 1 if one does not hold.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from benchmarks.load_scenes import configs, health, interactive, overload, projects, store, throughput
from benchmarks.report import Measure, measure_parts

SCENES: dict[str, Measure] = {
    scene.__name__.rpartition(".")[2]: scene.run
    for scene in (health, interactive, projects, configs, overload, store, throughput)
}


def main(arguments: Sequence[str] | None = None, scenes: Mapping[str, Measure] = SCENES) -> int:
    return measure_parts(__doc__, scenes, arguments)


if __name__ == "__main__":
    sys.exit(main())
