"""`prelabel annotate` on a folder of pictures, on a CPU: `python -m benchmarks.bulk [--json FILE] [--only PART ...]`.

Fashion-MNIST's test pictures as PNG files of 224x224 through the command in a process of its own, with the built-in
model. Parts:
whole   speed, memory, cost and accuracy of all pictures
resume  killed (SIGKILL, the whole process group) at random moments and started again: what is lost or there twice
ray     two workers beside the engine of this machine

Each prints its figures beside their limits; other parts' figures that FILE holds are kept.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.predict.record import PATH_SEPARATOR
from backend.settings import Settings
from benchmarks.bulk_command import LineCounter, annotate, kill_group, log_of, records_of, start
from benchmarks.figures import Figure, Measure, Part, measure_parts
from benchmarks.pictures import NUM, classes, write_pictures
from benchmarks.report import use_threads, wait_until
from training.rules import LABELS

PRICE_PER_MINUTE = 0.06
THOUSAND = 1000
FIELDS = ("category", "style", "season", "scene")
RECORD_KEYS = {"image_id", "caption", "tags", "fields", "image"}
IN_WORK = 2 * int(Settings.model_fields["max_slots"].default)
START_S = 300.0
POLL_S = 0.005
JITTER_S = 0.2


def whole(folder: Path, quick: bool) -> Part:
    """The whole folder. Memory is told for the second and the last thousand, or half of fewer than two."""
    pictures = write_pictures(folder, 40 if quick else NUM)
    ended = annotate(pictures, folder / "out.jsonl")
    num, size, speed = len(pictures), min(THOUSAND, len(pictures) // 2), ended.summary["images_per_s"]
    records = records_of(ended.output)
    if (ended.summary["num_done"], len(records)) != (num, num):
        raise RuntimeError(f"{num} pictures, but {ended.summary}")
    minutes = 10_000 / speed / 60
    figures = [
        Figure("from the first to the last picture", ended.summary["seconds"], "s"),
        Figure("speed", speed, "images/s"),
        Figure("loading", ended.summary["load_s"], "s"),
        Figure("10,000 pictures", minutes, "minutes"),
        Figure(f"10,000 pictures at ¥{PRICE_PER_MINUTE} a minute", minutes * PRICE_PER_MINUTE, "¥"),
        Figure("for review", ended.summary["review_share"], "share"),
        *(Figure(f"accuracy: {name}", share, "share") for name, share in accuracy(records, pictures).items()),
        Figure("peak memory of all processes", ended.peak_rss_bytes(-1, num), "bytes"),
        Figure(f"peak memory until picture {2 * size:,}", ended.peak_rss_bytes(size, 2 * size), "bytes"),
        Figure(f"peak memory of the last {size:,}", ended.peak_rss_bytes(num - size, num), "bytes"),
    ]
    return Part(f"{num:,} pictures, model version {ended.summary['model_version']}", figures)


def accuracy(records: dict[str, Any], pictures: Sequence[Path]) -> dict[str, float]:
    """Against the rules the model was trained on, as shares of the pictures; each has a record."""
    right: Counter[str] = Counter()
    for picture, number in zip(pictures, classes(), strict=False):
        labels, found = LABELS["zh"][number], records[str(picture)]["fields"]
        wanted = {name: getattr(labels, name) for name in FIELDS} | {"category": PATH_SEPARATOR.join(labels.category)}
        right.update(name for name in FIELDS if found.get(name) == wanted[name])
    return {name: right[name] / len(pictures) for name in FIELDS}


@dataclass(frozen=True, slots=True)
class Kill:
    """What stood in the output right after it. `torn_bytes`: of a last line without its end."""

    lines: int
    invalid_lines: int
    torn_bytes: int


def resume(folder: Path, quick: bool) -> Part:
    """Kill the run over the pictures, each time at a later one, then let it end."""
    num, num_kills = (40, 1) if quick else (1_500, 5)
    pictures, output, chance = write_pictures(folder, num), folder / "out.jsonl", random.Random(5)
    kills: list[Kill] = []
    for left in range(num_kills, 0, -1):
        done = kills[-1].lines if kills else 0
        share = (len(pictures) - done) // (left + 1)
        kills.append(_killed(pictures, output, done + chance.randint(1, max(1, 3 * share // 2)), chance))
    annotate(pictures, output)
    images = Counter(json.loads(line)["image"] for line in output.read_text("utf-8").splitlines())
    figures = [
        Figure("records", images.total()),
        Figure("there twice", images.total() - len(images), "", 0),
        Figure("lost", len({*map(str, pictures)} - images.keys()), "", 0),
        Figure("lines that were not valid at a kill", sum(kill.invalid_lines for kill in kills), "", 0),
        Figure("kills within a line", sum(kill.torn_bytes > 0 for kill in kills)),
        Figure("asked about twice at most", sum(min(IN_WORK, len(pictures) - kill.lines) for kill in kills)),
    ]
    at = ", ".join(f"{kill.lines:,}" for kill in kills)
    return Part(f"{len(pictures):,} pictures, killed when so many records were there: {at}", figures)


def _killed(pictures: Sequence[Path], output: Path, num_lines: int, chance: random.Random) -> Kill:
    """Start it, and kill it a little after it has so many lines. Raises RuntimeError if it never has."""
    lines, process = LineCounter(output), start(pictures, output)
    try:
        reached = wait_until(lambda: lines() >= num_lines or process.poll() is not None, START_S, POLL_S)
        if not reached or process.poll() is not None:
            raise RuntimeError(f"no {num_lines} lines: {log_of(output)}")
        time.sleep(chance.uniform(0, JITTER_S))
    finally:
        kill_group(process)
    return look(output)


def look(output: Path) -> Kill:
    """What stands in `output` now."""
    *complete, torn = output.read_bytes().split(b"\n")
    return Kill(len(complete), sum(not _is_record(line) for line in complete), len(torn))


def _is_record(line: bytes) -> bool:
    try:
        record = json.loads(line)
    except ValueError:
        return False
    return isinstance(record, dict) and record.keys() >= RECORD_KEYS


def ray(folder: Path, quick: bool) -> Part:
    """The same pictures by one engine and by two workers of Ray."""
    pictures = write_pictures(folder, 24 if quick else 600)
    runs = {
        "one engine": annotate(pictures, folder / "local.jsonl"),
        "Ray, 2 workers": annotate(pictures, folder / "ray.jsonl", "--engine", "ray", "--workers", "2"),
    }
    one, two = (records_of(ended.output) for ended in runs.values())
    num_same = sum(_said(record) == _said(two.get(image, {})) for image, record in one.items())
    figures = [Figure("records that are not the same", len(pictures) - num_same, "", 0)]
    for name, ended in runs.items():
        figures += [
            Figure(f"{name}: speed", ended.summary["images_per_s"], "images/s"),
            Figure(f"{name}: to start and end", ended.wall_s - ended.summary["seconds"], "s"),
            Figure(f"{name}: peak memory", ended.peak_rss_bytes(-1, len(pictures)), "bytes"),
        ]
    return Part(f"{len(pictures):,} pictures", figures)


def _said(record: dict[str, Any]) -> dict[str, Any]:
    """All but the confidences, which float sums of other neighbours in a batch move in the last digits."""
    return {name: value for name, value in record.items() if name not in ("confidence", "score", "review_reasons")}


PARTS: dict[str, Measure] = {"whole": whole, "resume": resume, "ray": ray}


def main(arguments: Sequence[str] | None = None) -> int:
    use_threads(1)
    return measure_parts(__doc__, PARTS, arguments)


if __name__ == "__main__":
    sys.exit(main())
