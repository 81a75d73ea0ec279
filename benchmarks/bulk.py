"""`prelabel annotate` on a folder of pictures, on a CPU: `python -m benchmarks.bulk [--json FILE] [--only PART ...]`.

Fashion-MNIST's test pictures as PNG files of 224x224 through the command in a process of its own, with the built-in
model. Parts:
whole   speed, memory, cost and accuracy of all pictures
resume  killed (SIGKILL, the whole process group) at random moments and started again: what is lost or there twice
ray     two workers beside the engine of this machine
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backend.predict.record import PATH_SEPARATOR
from benchmarks.bulk_command import annotate, kill_group, log_of, num_lines, start
from benchmarks.pictures import FIELDS, NUM, labels_of, write_pictures
from benchmarks.report import Figure, Measure, Part, measure_parts, use_threads, wait_until

PRICE_PER_MINUTE = 0.06
THOUSAND = 1000
RECORD_KEYS = {"image_id", "caption", "tags", "fields", "image"}
START_S = 300.0
JITTER_S = 0.2
Record = dict[str, Any]


def whole(folder: Path, small: bool) -> Part:
    """The whole folder. Memory is told for the second and the last thousand, or half of fewer than two."""
    pictures = write_pictures(folder, 40 if small else NUM)
    ended = annotate(pictures, folder / "out.jsonl")
    num, size, speed = len(pictures), min(THOUSAND, len(pictures) // 2), ended.summary["images_per_s"]
    records, bad = read_records(ended.output)
    minutes = 10_000 / speed / 60
    figures = [
        Figure("pictures without a record", num - len(records), "", 0),
        Figure("lines that are no record", bad, "", 0),
        Figure("from the first to the last picture", ended.summary["seconds"], "s"),
        Figure("speed", speed, "images/s"),
        Figure("10,000 pictures", minutes, "minutes"),
        Figure(f"10,000 pictures at ¥{PRICE_PER_MINUTE} a minute", minutes * PRICE_PER_MINUTE, "¥"),
        *(Figure(f"accuracy: {name}", share, "share") for name, share in accuracy(records, pictures).items()),
        Figure("peak memory of all processes", ended.peak_rss_bytes(-1, num), "bytes"),
        Figure(f"peak memory until picture {2 * size:,}", ended.peak_rss_bytes(size, 2 * size), "bytes"),
        Figure(f"peak memory of the last {size:,}", ended.peak_rss_bytes(num - size, num), "bytes"),
    ]
    return Part(f"{num:,} pictures, model version {ended.summary['model_version']}", figures)


def accuracy(records: Mapping[str, Record], pictures: Sequence[Path]) -> dict[str, float]:
    """Against the rules the model was trained on, as shares of the pictures."""
    right: Counter[str] = Counter()
    for number, picture in enumerate(pictures):
        labels, found = labels_of(number), records.get(str(picture), {"fields": {}})["fields"]
        wanted = {name: getattr(labels, name) for name in FIELDS} | {"category": PATH_SEPARATOR.join(labels.category)}
        right.update(name for name in FIELDS if found.get(name) == wanted[name])
    return {name: right[name] / len(pictures) for name in FIELDS}


def resume(folder: Path, small: bool) -> Part:
    """Kill the run over the pictures, each time at a later one, then let it end."""
    num, num_kills = (40, 1) if small else (1_500, 5)
    pictures, output, chance = write_pictures(folder, num), folder / "out.jsonl", random.Random(5)
    at: list[int] = []
    num_bad = 0
    for left in range(num_kills, 0, -1):
        done = at[-1] if at else 0
        step = chance.randint(1, max(1, 3 * (num - done) // (left + 1) // 2))
        _start_and_kill(pictures, output, min(num - 1, done + step), chance.uniform(0, JITTER_S))
        at.append(num_lines(output))
        num_bad += read_records(output)[1]
    annotate(pictures, output)
    records, bad = read_records(output)
    figures = [
        Figure("records", num_lines(output)),
        Figure("there twice", num_lines(output) - bad - len(records), "", 0),
        Figure("lost", len({*map(str, pictures)} - records.keys()), "", 0),
        Figure("whole lines that were no record at a kill", num_bad, "", 0),
    ]
    told = ", ".join(f"{lines:,}" for lines in at)
    return Part(f"{num:,} pictures, killed when so many records were there: {told}", figures)


def _start_and_kill(pictures: Sequence[Path], output: Path, lines: int, after_s: float) -> None:
    """Start it, and kill it so long after it has so many lines. Raises RuntimeError if it never has."""
    process = start(pictures, output)
    try:
        reached = wait_until(lambda: num_lines(output) >= lines or process.poll() is not None, START_S, 0.005)
        if not reached or process.poll() is not None:
            raise RuntimeError(f"no {lines} lines: {log_of(output)}")
        time.sleep(after_s)
    finally:
        kill_group(process)


def read_records(output: Path) -> tuple[dict[str, Record], int]:
    """By the path of the picture; and how many whole lines are no record. A torn last line is neither."""
    records: dict[str, Record] = {}
    bad = 0
    for line in output.read_bytes().split(b"\n")[:-1]:
        try:
            record = json.loads(line)
        except ValueError:
            record = {}
        if record.keys() >= RECORD_KEYS:
            records[record["image"]] = record
        else:
            bad += 1
    return records, bad


def ray(folder: Path, small: bool) -> Part:
    """The same pictures by one engine and by two workers of Ray."""
    pictures = write_pictures(folder, 24 if small else 600)
    runs = {
        "one engine": annotate(pictures, folder / "local.jsonl"),
        "Ray, 2 workers": annotate(pictures, folder / "ray.jsonl", "--engine", "ray", "--workers", "2"),
    }
    one, two = (read_records(ended.output)[0] for ended in runs.values())
    num_same = sum(_said(record) == _said(two.get(image, {})) for image, record in one.items())
    figures = [Figure("records that are not the same", len(pictures) - num_same, "", 0)]
    for name, ended in runs.items():
        figures += [
            Figure(f"{name}: speed", ended.summary["images_per_s"], "images/s"),
            Figure(f"{name}: to start and end", ended.wall_s - ended.summary["seconds"], "s"),
        ]
    return Part(f"{len(pictures):,} pictures", figures)


def _said(record: Record) -> Record:
    """All but the confidences, which float sums of other neighbours in a batch move in the last digits."""
    return {name: value for name, value in record.items() if name not in ("confidence", "score", "review_reasons")}


PARTS: dict[str, Measure] = {"whole": whole, "resume": resume, "ray": ray}


def main(arguments: Sequence[str] | None = None) -> int:
    use_threads(1)
    return measure_parts(__doc__, PARTS, arguments)


if __name__ == "__main__":
    sys.exit(main())
