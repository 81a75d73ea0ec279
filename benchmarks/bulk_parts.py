"""The parts of `python -m benchmarks.bulk`: each runs, prints its tables, and returns the same figures for JSON."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch

from backend.engine.messages import Sampling
from backend.settings import Settings
from benchmarks import bulk_article, bulk_kills, bulk_overhead
from benchmarks.bulk_command import Ended, Sample, annotate, list_pictures, records_of
from benchmarks.bulk_labels import FIELDS, Quality, parse_free, quality
from benchmarks.report import print_table
from label_config.parse import parse_label_config
from label_config.ready_made import ready_made
from model_loader.loader import load_model

PRICE_PER_MINUTE = 0.06
THOUSAND = 1000
CONFIG, OTHER_CONFIG = "garments.zh", "ecommerce.zh"
EXAMPLES = 2
Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bench:
    """`pictures` are files in the order of the classes."""

    folder: Path
    pictures: tuple[Path, ...]
    classes: tuple[int, ...]
    settings: Settings
    args: argparse.Namespace

    def annotate(self, name: str, num: int, *options: str) -> Ended:
        """The first `num` pictures, as a run of its own."""
        source = list_pictures(self.folder / f"{name}.txt", self.pictures[:num])
        return annotate(source, self.folder / f"{name}.jsonl", *options)

    def quality(self, ended: Ended, config: str = CONFIG) -> Quality:
        """Of its records, which are those of the first pictures."""
        records = {record["image"]: record["fields"] for record in records_of(ended.output).values()}
        num = len(records)
        schema = parse_label_config(ready_made(config))
        return quality(schema, [records[str(picture)] for picture in self.pictures[:num]], self.classes[:num])


def whole(bench: Bench) -> Figures:
    """The whole folder."""
    num = min(bench.args.pictures, len(bench.pictures))
    ended = bench.annotate("whole", num)
    summary = ended.summary
    if (summary["num_done"], len(records_of(ended.output))) != (num, num):
        raise RuntimeError(f"{num} pictures, but {summary}")
    minutes = 10_000 / ended.images_per_s / 60
    rows = by_thousand(ended.samples, num)
    print(
        f"{num:,} pictures in {ended.seconds:.0f} s: {ended.images_per_s:.1f} images/s; "
        f"loading took {summary['load_s']:.0f} s"
    )
    print(f"10,000 pictures: {minutes:.1f} minutes, ¥{minutes * PRICE_PER_MINUTE:.2f} at ¥{PRICE_PER_MINUTE} a minute")
    print("\nMemory of all its processes, and speed:")
    print_table(
        ["pictures", "peak MiB", "without the engine", "images/s"],
        [
            [
                f"{row['until']:,}",
                f"{row['peak_rss_mib']:.1f}",
                f"{row['own_peak_rss_mib']:.1f}",
                _or_none(row["images_per_s"], ".1f"),
            ]
            for row in rows
        ],
    )
    second = last = None
    if rows:  # else nobody looked while it ran: it was too short
        second, last = (rows[min(1, len(rows) - 1)]["peak_rss_mib"], rows[-1]["peak_rss_mib"])
        print(f"the second part {second:.1f} MiB, the last one {last:.1f} MiB: {last - second:+.1f} MiB")
    found = bench.quality(ended)
    print("\nAgainst the rules the model was trained on:")
    print_table(["", *FIELDS], [["accuracy", *(f"{found.accuracy[name]:.1%}" for name in FIELDS)]])
    print(f"for review {summary['review_share']:.1%}, records with an illegal label {found.invalid_share:.1%}")
    return {
        "pictures": num,
        "seconds": ended.seconds,
        "images_per_s": ended.images_per_s,
        "load_s": summary["load_s"],
        "wall_s": ended.wall_s,
        "minutes_for_10000": minutes,
        "yuan_for_10000": minutes * PRICE_PER_MINUTE,
        "peak_rss_mib": ended.peak_rss_bytes / 2**20,
        "second_part_peak_rss_mib": second,
        "last_part_peak_rss_mib": last,
        "memory_is_flat": None if second is None else last <= second,
        "by_thousand": rows,
        "accuracy": found.accuracy,
        "invalid_share": found.invalid_share,
        "review_share": summary["review_share"],
        "model_version": summary["model_version"],
    }


def by_thousand(samples: Sequence[Sample], num: int) -> list[Figures]:
    """Peak memory and speed of each thousand pictures, or of the halves of fewer; neither loading nor the end count."""
    size = THOUSAND if num >= 2 * THOUSAND else max(1, num // 2)
    end_s = next((sample.at_s for sample in samples if sample.done >= num), samples[-1].at_s)
    before = zip([0.0, *accumulate((sample.cpu_s for sample in samples), max)], samples, strict=False)
    whole = [sample for cpu_s, sample in before if sample.cpu_s >= cpu_s]  # else a process has ended by then
    rows: list[Figures] = []
    for first in range(0, num, size):
        until = min(first + size, num)
        during = [sample for sample in whole if first < sample.done <= until and sample.at_s <= end_s]
        if not during:
            continue
        seconds = during[-1].at_s - during[0].at_s
        speed = (during[-1].done - during[0].done) / seconds if seconds else None
        peak = max(sample.rss_bytes for sample in during) / 2**20
        own = max(sample.own_bytes for sample in during) / 2**20
        rows.append({"until": until, "peak_rss_mib": peak, "own_peak_rss_mib": own, "images_per_s": speed})
    return rows


def overhead(bench: Bench) -> Figures:
    """Over the bare engine."""
    args = bench.args
    pictures = bench.pictures[: args.overhead_pictures]
    pairs = bulk_overhead.measure(pictures, args.pairs, bench.folder)
    median, cpu = bulk_overhead.median_overhead(pairs), bulk_overhead.median_cpu_overhead(pairs)
    print_table(
        [
            "pictures",
            "command s",
            "bare s",
            "overhead",
            "CPU ms/picture",
            "bare",
            "CPU overhead",
            "same labels",
            "load",
        ],
        [
            [
                f"{pair.num:,}",
                f"{pair.command_s:.1f}",
                f"{pair.bare_s:.1f}",
                f"{pair.overhead:+.1%}",
                _or_none(pair.command_cpu_s and pair.command_cpu_s * 1e3, ".1f"),
                _or_none(pair.bare_cpu_s and pair.bare_cpu_s * 1e3, ".1f"),
                _or_none(pair.cpu_overhead, "+.1%"),
                f"{pair.same_labels} of {pair.num}",
                f"{pair.load_average:.1f}",
            ]
            for pair in pairs
        ],
    )
    total = bulk_overhead.total_overhead(pairs)
    print(f"median {median:+.1%} of the time, {_or_none(cpu, '+.1%')} of the CPU time; all pairs together {total:+.1%}")
    return {
        "pairs": [asdict(p) | {"overhead": p.overhead, "cpu_overhead": p.cpu_overhead} for p in pairs],
        "median_overhead": median,
        "total_overhead": total,
        "median_cpu_overhead": cpu,
    }


def resume(bench: Bench) -> Figures:
    """Exact after kills."""
    args = bench.args
    pictures = bench.pictures[: args.resume_pictures]
    resumed = bulk_kills.measure(pictures, args.kills, bench.folder / "kills", bench.settings.max_slots)
    print_table(
        ["killed", "after s", "records", "not valid", "torn bytes"],
        [
            [str(n), f"{kill.after_s:.1f}", f"{kill.lines:,}", str(kill.invalid_lines), str(kill.torn_bytes)]
            for n, kill in enumerate(resumed.kills, 1)
        ],
    )
    print(
        f"{resumed.lines:,} records of {resumed.num:,} pictures: {resumed.twice} twice, {resumed.lost} lost\n"
        f"asked about twice: at most {resumed.asked_twice_at_most} ({resumed.in_work} in work at a kill)"
    )
    return asdict(resumed) | {"is_exact": resumed.is_exact, "asked_twice_at_most": resumed.asked_twice_at_most}


def ray(bench: Bench) -> Figures:
    """Two workers."""
    num = bench.args.ray_pictures
    runs = {
        "local": bench.annotate("local", num),
        "ray, 2 workers": bench.annotate("ray", num, "--engine", "ray", "--workers", "2"),
    }
    one, two = (records_of(ended.output) for ended in runs.values())
    same = sum(_said(one[name]) == _said(two[name]) for name in one.keys() & two.keys())
    apart = max(_apart(one[name], two[name]) for name in one.keys() & two.keys())
    figures = {
        name: {
            "start_s": ended.wall_s - ended.seconds,
            "seconds": ended.seconds,
            "images_per_s": ended.images_per_s,
            "wall_s": ended.wall_s,
            "peak_rss_mib": ended.peak_rss_bytes / 2**20,
        }
        for name, ended in runs.items()
    }
    print_table(
        ["engine", "start and end s", "images/s", "all s", "peak MiB"],
        [
            [name, f"{f['start_s']:.1f}", f"{f['images_per_s']:.1f}", f"{f['wall_s']:.1f}", f"{f['peak_rss_mib']:.0f}"]
            for name, f in figures.items()
        ],
    )
    print(f"the same records: {same} of {num}; confidences apart by at most {apart:.4f}")
    return {"pictures": num, "runs": figures, "same_records": same, "confidence_apart": apart}


def _said(record: Figures) -> Figures:
    """All but the confidences, which float sums of other neighbours in a batch move in the last digits."""
    return {name: value for name, value in record.items() if name not in ("confidence", "score", "review_reasons")}


def _apart(one: Figures, two: Figures) -> float:
    return float(max(abs(value - two["confidence"].get(name, 0.0)) for name, value in one["confidence"].items()))


def article(bench: Bench) -> Figures:
    """Beside the seed article's way."""
    loaded = load_model("garments", device="cpu")
    figures: Figures = {}
    for config, num, told in (
        (CONFIG, bench.args.article_pictures, "the config the model was trained on"),
        (OTHER_CONFIG, bench.args.other_pictures, "a config it has never seen"),
    ):
        schema = parse_label_config(ready_made(config))
        pictures, classes = bench.pictures[:num], bench.classes[:num]
        tokens = bench.settings.image_tokens
        threads = bulk_article.same_in_threads(loaded, schema, tokens, pictures[:4])
        torch.manual_seed(0)
        free = bulk_article.run(bulk_article.FreeOutput(loaded, schema, tokens, Sampling()), pictures)
        ended = bench.annotate(f"beside-{config}", num, "--label-config", config)
        parsed = [parse_free(text) for text in free.texts]
        rows = {
            f"generate(), {bulk_article.NUM_THREADS} threads": (free.images_per_s, quality(schema, parsed, classes)),
            "prelabel annotate": (ended.images_per_s, bench.quality(ended, config)),
        }
        print(f"{config}: {told}; {num} pictures")
        names = FIELDS if config == CONFIG else ()
        print_table(
            ["", "images/s", "invalid", *names],
            [
                [name, f"{speed:.1f}", f"{q.invalid_share:.1%}", *(f"{q.accuracy[field]:.1%}" for field in names)]
                for name, (speed, q) in rows.items()
            ],
        )
        invalid = rows[f"generate(), {bulk_article.NUM_THREADS} threads"][1].invalid
        print("free output:", ", ".join(f"{count} {reason}" for reason, count in invalid.items()) or "all valid", "\n")
        figures[config] = {
            "pictures": num,
            "about": told,
            "same_in_threads": f"{threads} of {len(pictures[:4])}",
            "examples": free.texts[:EXAMPLES],
            "rows": {
                name: {
                    "images_per_s": speed,
                    "invalid_share": q.invalid_share,
                    "invalid": q.invalid,
                    "accuracy": {field: q.accuracy[field] for field in names},
                }
                for name, (speed, q) in rows.items()
            },
        }
    return figures


def _or_none(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
