"""Tries all doors in turns for some time and prints what was tried: `.venv/bin/python -m tests.fuzz --minutes 60`."""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.doors import doors
from tests.fuzz.trial import tried

ROUND = 50
MAX_SHOWN = 30


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    options = parser.parse_args()
    tries, refusals, slowest = Counter[str](), Counter[str](), dict.fromkeys(doors(), 0.0)
    faults: list[str] = []
    seed, end = options.first, time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end:
            for name in doors():
                for trial in (tried(name, seed + number, Path(folder)) for number in range(ROUND)):
                    tries[name] += 1
                    refusals[name] += trial.refused
                    slowest[name] = max(slowest[name], trial.cpu_s)
                    if trial.fault and len(faults) < MAX_SHOWN:
                        print(trial.fault, flush=True)
                    faults += [trial.fault] if trial.fault else []
            seed += ROUND
    for name in doors():
        counts = f"{tries[name]:>9,} inputs, {refusals[name]:>9,} refused"
        print(f"{name:18} {counts}, slowest {slowest[name]:6.2f} s of CPU")

    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{tries.total():,} inputs, {len(faults)} faults, peak {peak_mib:.0f} MiB, next seed {seed}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
