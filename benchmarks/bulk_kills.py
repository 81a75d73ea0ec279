"""A run that is killed (SIGKILL, the whole process group) at random moments and started again each time."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bulk_command import LineCounter, annotate, kill_group, list_pictures, start

POLL_S = 0.005
START_S = 300.0
JITTER_S = 0.2


@dataclass(frozen=True, slots=True)
class Kill:
    """What stood in the output right after it. `torn_bytes`: of a last line without its end."""

    after_s: float
    lines: int
    invalid_lines: int
    torn_bytes: int


@dataclass(frozen=True, slots=True)
class Resumed:
    """After the last run. `in_work`: pictures that can have been in work at a kill at most, so asked about twice."""

    num: int
    kills: tuple[Kill, ...]
    lines: int
    twice: int
    lost: int
    in_work: int

    @property
    def asked_twice_at_most(self) -> int:
        return sum(min(self.in_work, self.num - kill.lines) for kill in self.kills)

    @property
    def is_exact(self) -> bool:
        return not (self.twice or self.lost or any(kill.invalid_lines for kill in self.kills))


def measure(pictures: Sequence[Path], num_kills: int, folder: Path, max_slots: int, seed: int = 5) -> Resumed:
    """Kill the job over `pictures` so often, then let it end."""
    folder.mkdir()
    source, output = list_pictures(folder / "pictures.txt", pictures), folder / "out.jsonl"
    chance = random.Random(seed)
    kills: list[Kill] = []
    for left in range(num_kills, 0, -1):
        done = kills[-1].lines if kills else 0
        share = (len(pictures) - done) // (left + 1)
        kills.append(_killed(source, output, done + chance.randint(1, max(1, 3 * share // 2)), chance))
    annotate(source, output)
    images = Counter(json.loads(line)["image"] for line in output.read_bytes().splitlines())
    return Resumed(
        num=len(pictures),
        kills=tuple(kills),
        lines=images.total(),
        twice=images.total() - len(images),
        lost=len({str(picture) for picture in pictures} - images.keys()),
        in_work=2 * max_slots,
    )


def _killed(source: Path, output: Path, num_lines: int, chance: random.Random) -> Kill:
    """Start it, and kill it a little after it has so many lines. Raises RuntimeError if it never has."""
    began, lines = time.perf_counter(), LineCounter(output)
    process = start(source, output)
    try:
        while lines() < num_lines:
            if process.poll() is not None or time.perf_counter() > began + START_S:
                raise RuntimeError(f"no {num_lines} lines: {output.with_suffix('.log').read_text()[-2000:]}")
            time.sleep(POLL_S)
        time.sleep(chance.uniform(0, JITTER_S))
    finally:
        kill_group(process)
    return look(output, time.perf_counter() - began)


def look(output: Path, after_s: float) -> Kill:
    """What stands in `output` now."""
    *whole, torn = output.read_bytes().split(b"\n")
    return Kill(after_s, len(whole), sum(not _is_record(line) for line in whole), len(torn))


def _is_record(line: bytes) -> bool:
    try:
        record = json.loads(line)
    except ValueError:
        return False
    return isinstance(record, dict) and {"image_id", "caption", "tags", "fields", "image"} <= record.keys()
