"""The command against the bare engine (`benchmarks.bulk_bare`): the same pictures in turns, each a process.

Other programs of the machine slow one turn more than the next, so every thousand goes through both, one after the
other, the order changing; the median of the pairs counts. CPU time does not depend on the others as much.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bulk_command import annotate, cpu_s_per_picture, list_pictures, records_of

TURN_S = 3600.0


@dataclass(frozen=True, slots=True)
class Turn:
    """`seconds` from the first picture to the last; `labels` are each picture's."""

    seconds: float
    cpu_s_per_picture: float | None
    labels: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """`same_labels` of `num` pictures. Overheads are shares: 0.05 is 5 % more time than the bare engine takes."""

    num: int
    command_s: float
    bare_s: float
    command_cpu_s: float | None
    bare_cpu_s: float | None
    same_labels: int
    load_average: float

    @property
    def overhead(self) -> float:
        return self.command_s / self.bare_s - 1

    @property
    def cpu_overhead(self) -> float | None:
        """Of the CPU time of all processes, for a picture."""
        return self.command_cpu_s / self.bare_cpu_s - 1 if self.command_cpu_s and self.bare_cpu_s else None


def measure(pictures: Sequence[Path], num_pairs: int, folder: Path) -> list[Pair]:
    """Each pair takes its share of `pictures`."""
    size = len(pictures) // num_pairs
    pairs = []
    for number in range(num_pairs):
        part = pictures[number * size : (number + 1) * size]
        if number % 2:
            bare = bare_turn(part, folder / f"bare{number}")
            command = command_turn(part, folder / f"command{number}")
        else:
            command = command_turn(part, folder / f"command{number}")
            bare = bare_turn(part, folder / f"bare{number}")
        same = sum(a == b for a, b in zip(command.labels, bare.labels, strict=True))
        cpu = (command.cpu_s_per_picture, bare.cpu_s_per_picture)
        pairs.append(Pair(size, command.seconds, bare.seconds, *cpu, same, os.getloadavg()[0]))
    return pairs


def median_overhead(pairs: Sequence[Pair]) -> float:
    return statistics.median(pair.overhead for pair in pairs)


def total_overhead(pairs: Sequence[Pair]) -> float:
    return sum(pair.command_s for pair in pairs) / sum(pair.bare_s for pair in pairs) - 1


def median_cpu_overhead(pairs: Sequence[Pair]) -> float | None:
    known = [pair.cpu_overhead for pair in pairs if pair.cpu_overhead is not None]
    return statistics.median(known) if known else None


def command_turn(pictures: Sequence[Path], folder: Path) -> Turn:
    folder.mkdir()
    ended = annotate(list_pictures(folder / "pictures.txt", pictures), folder / "out.jsonl")
    by_image = {record["image"]: record for record in records_of(ended.output).values()}
    labels = tuple(tuple(map(str, by_image[str(picture)]["fields"].values())) for picture in pictures)
    return Turn(ended.seconds, cpu_s_per_picture(ended.samples, len(pictures)), labels)


def bare_turn(pictures: Sequence[Path], folder: Path) -> Turn:
    folder.mkdir()
    source, found = list_pictures(folder / "pictures.txt", pictures), folder / "turn.json"
    command = [sys.executable, "-c", "from benchmarks.bulk_bare import main; main()", str(source), str(found)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, start_new_session=True, timeout=TURN_S)
    turn = json.loads(found.read_text(encoding="utf-8"))
    return Turn(turn["seconds"], turn["cpu_s_per_picture"], tuple(map(tuple, turn["labels"])))
