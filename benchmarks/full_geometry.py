"""Speed and memory at the size of Qwen3-VL-30B-A3B on one CUDA card, with random 4-bit weights: nothing is downloaded.

`python -m benchmarks.full_geometry --cap-gib 24 [--json FILE]`, made to end within 10 minutes. It makes the model on
the card (`random_model`), tunes the kernels as the engine does at its start, then measures the engine for each number
of image tokens and slots (`geometry_engine`) beside what the card's data sheet allows (`roofline`), and the experts
alone beside other ways to run them (`experts_baselines`). Each row is printed, and FILE written anew, as soon as it is
known. What fails in one row is said there, and the rest goes on. `--small`: a small geometry, on a CPU if there is no
card, to see that all of it works. docs/gpu.md says what the columns mean.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from backend.engine.loop import one_line
from benchmarks import experts_baselines, roofline
from benchmarks.experts_baselines import Timing
from benchmarks.geometry_engine import Load, Measured, measure, release_memory
from benchmarks.random_model import build, experts_hit
from benchmarks.report import hardware, print_table, write_json
from benchmarks.roofline import Card, Work, ideal_images_per_s, sizes_of
from model_loader.experts import calibrate, use_fused_linears
from model_loader.loader import LoadedModel

HIT_ROWS = 32
EXPERTS_SHARE = 0.15  # of the time, for the experts' baselines
COLUMNS = (
    ("image", 5), ("slots", 5), ("run", 4), ("img/s", 7), ("tok/s", 7), ("ms/step", 8), ("tok/step", 8),
    ("ms/prefill", 10), ("pics", 5), ("ms vision", 9), ("in steps", 8), ("GiB res.", 8), ("GiB alloc.", 10),
    ("KV tokens", 9), ("forced", 7), ("ideal img/s", 11), ("share", 6),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One load of the engine. `error` says why there is no figure; `ideal_images_per_s` is None on unknown cards."""

    image_tokens: int
    slots: int
    measured: Measured | None = None
    ideal_images_per_s: float | None = None
    share_of_ideal: float | None = None
    error: str = ""


@dataclass(slots=True)
class Report:
    """What is written to the JSON file. Grows while the benchmark runs."""

    geometry: str
    cap_gib: float | None
    answer_tokens: int
    prefix_tokens: int
    card: Card | None
    weights_gib: float = 0.0
    build_s: float = 0.0
    plan: str = ""
    experts_hit: float = 0.0
    experts_hit_uniform: float = 0.0
    engine: list[Row] = dataclasses.field(default_factory=list)
    experts: list[Timing] = dataclasses.field(default_factory=list)
    total_s: float = 0.0

    def as_figures(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "experts_hit_rows": HIT_ROWS}


def main(arguments: Sequence[str] | None = None) -> None:
    args = _parse(arguments)
    started = time.perf_counter()
    device = args.device
    card = _card(args, device)
    report = Report("small" if args.small else "30b", args.cap_gib, args.answer_tokens, args.prefix_tokens, card)

    def save() -> None:
        report.total_s = time.perf_counter() - started
        if args.json:
            write_json(args.json, report.as_figures())

    if device.startswith("cuda") and args.cap_gib:
        total_gib = torch.cuda.get_device_properties(device).total_memory / 2**30
        torch.cuda.set_per_process_memory_fraction(min(1.0, args.cap_gib / total_gib))
    loaded = build("small" if args.small else "30b", device)
    _describe(report, loaded)
    save()
    engine_end = started + args.budget_s * (1 - EXPERTS_SHARE)
    loads = [Load(t, s, args.answer_tokens, args.prefix_tokens) for t in args.image_tokens for s in args.slots]
    print(" ".join(name.rjust(width) for name, width in COLUMNS), flush=True)
    for number, load in enumerate(loads):
        share_s = (engine_end - time.perf_counter()) / (len(loads) - number)
        report.engine.append(run_load(loaded, load, card, args.cap_gib, share_s))
        release_memory()
        print(" ".join(cell.rjust(width) for cell, (_, width) in zip(_cells(report.engine[-1]), COLUMNS, strict=True)))
        for note in notes(report.engine[-1]):
            print(f"      {note}")
        sys.stdout.flush()  # a device fault ends the process at once
        save()
    token_counts = (HIT_ROWS, 256) if args.small else (experts_baselines.DECODE_ROWS, experts_baselines.PREFILL_TOKENS)
    left_s = max(20.0 if not args.small else 2.0, started + args.budget_s - time.perf_counter())
    report.experts = experts_baselines.compare(loaded, token_counts, budget_s=min(left_s, 90.0))
    save()
    _print_experts(report.experts)
    print(f"\n{report.total_s:.0f} s in all")


def run_load(loaded: LoadedModel, load: Load, card: Card | None, cap_gib: float | None, budget_s: float) -> Row:
    """Measure one load; what goes wrong becomes the row's `error`."""
    try:
        measured = measure(loaded, load, cap_gib=cap_gib, budget_s=budget_s)
    except Exception as error:  # a benchmark's border: the other rows go on
        return Row(load.image_tokens, load.slots, error=one_line(error))
    if card is None:
        return Row(load.image_tokens, load.slots, measured)
    work = Work(
        load.image_tokens,
        measured.running,
        load.answer_tokens,
        measured.forced_share,
        load.prefix_tokens,
        measured.prompt_tokens - load.prefix_tokens - load.image_tokens,
    )
    ideal = ideal_images_per_s(sizes_of(loaded.model.config), card, work)
    return Row(load.image_tokens, load.slots, measured, ideal, measured.images_per_s / ideal)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cap-gib", type=float, help="use at most this much of the card's memory, as a 24 GB card has")
    parser.add_argument("--json", type=Path, help="also write the results here")
    parser.add_argument("--image-tokens", type=int, nargs="+", help="square numbers (256 576 1024)")
    parser.add_argument("--slots", type=int, nargs="+", help="requests at once (8 32 64)")
    parser.add_argument("--answer-tokens", type=int, help="of every answer (120)")
    parser.add_argument("--prefix-tokens", type=int, help="of the instruction (350)")
    parser.add_argument("--budget-s", type=float, help="seconds for everything, set-up of the last row aside (540)")
    parser.add_argument("--bandwidth-gbs", type=float, help="the card's memory bandwidth, if it is not known here")
    parser.add_argument("--tflops", type=float, help="the card's dense bfloat16 TFLOPS (float32 accumulation)")
    parser.add_argument("--small", action="store_true", help="a small geometry and few requests, to try this program")
    parser.add_argument("--device", choices=("cuda", "cpu"), help="cuda if there is a card, else cpu")
    args = parser.parse_args(arguments)
    args.device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if args.device == "cpu" and not args.small:
        parser.error("no CUDA card was found; --small tries this program on a CPU")
    defaults: dict[str, Any] = (
        {"image_tokens": [16, 64], "slots": [2, 4], "answer_tokens": 40, "prefix_tokens": 40, "budget_s": 20.0}
        if args.small
        else {
            "image_tokens": [256, 576, 1024],
            "slots": [8, 32, 64],
            "answer_tokens": 120,
            "prefix_tokens": 350,
            "budget_s": 540.0,
        }
    )
    for name, value in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if any(tokens < 4 or round(tokens**0.5) ** 2 != tokens for tokens in args.image_tokens):
        parser.error("--image-tokens: each must be a square number of at least 4, as 256 or 576")
    if min(args.slots) < 1 or args.answer_tokens < 16 or args.prefix_tokens < 16 or args.budget_s <= 0:
        parser.error("--slots are at least 1, --answer-tokens and --prefix-tokens at least 16, --budget-s above 0")
    if args.cap_gib is not None and args.cap_gib <= 0:
        parser.error("--cap-gib is above 0")
    if (args.bandwidth_gbs is None) != (args.tflops is None):
        parser.error("--bandwidth-gbs and --tflops go together")
    return args


def _card(args: argparse.Namespace, device: str) -> Card | None:
    if args.tflops is not None:
        return Card(args.bandwidth_gbs, args.tflops)
    return roofline.find_card(torch.cuda.get_device_name(device)) if device.startswith("cuda") else None


def _describe(report: Report, loaded: LoadedModel) -> None:
    """Tune the kernels as the engine's process does, and say what is measured on what."""
    if loaded.device.startswith("cuda"):
        use_fused_linears(loaded.model)
        report.plan = str(calibrate(loaded.model))
    report.weights_gib = loaded.model.get_memory_footprint() / 2**30
    report.build_s = loaded.load_s
    report.experts_hit = experts_hit(loaded, HIT_ROWS)
    report.experts_hit_uniform = roofline.distinct_experts(sizes_of(loaded.model.config), HIT_ROWS)
    release_memory()
    cap = f"{report.cap_gib:g} GiB" if report.cap_gib else "none"
    print(
        f"{hardware()}, torch {torch.__version__}, cap {cap}, geometry {report.geometry} with random NF4 weights "
        f"({report.weights_gib:.2f} GiB, made in {report.build_s:.0f} s)"
    )
    print(f"prompt {report.prefix_tokens} + image, answer {report.answer_tokens} tokens")
    print(
        f"experts of a layer hit by {HIT_ROWS} tokens: {report.experts_hit:.1%} "
        f"(uniform routing: {report.experts_hit_uniform:.1%})"
    )
    if report.card is None:
        print("the roofline needs the card's data sheet: give --bandwidth-gbs and --tflops")
    if report.plan:
        print(f"kernels: {report.plan}")
    print()


def _cells(row: Row) -> list[str]:
    head = [str(row.image_tokens), str(row.slots)]
    m = row.measured
    if m is None:
        return [*head, *["-"] * (len(COLUMNS) - 2)]
    on_card = m.peak_reserved_gib > 0
    return [
        *head,
        str(m.running),
        f"{m.images_per_s:.2f}",
        f"{m.tokens_per_s:.0f}",
        f"{m.decode_step_ms:.1f}",
        f"{m.tokens_per_step:.1f}",
        f"{m.prefill_ms:.1f}",
        f"{m.pictures_per_prefill:.1f}",
        f"{m.vision_ms:.2f}",
        f"{m.steps_share:.0%}",
        f"{m.peak_reserved_gib:.2f}" if on_card else "-",
        f"{m.peak_allocated_gib:.2f}" if on_card else "-",
        str(m.kv_tokens),
        f"{m.forced_share:.1%}",
        "-" if row.ideal_images_per_s is None else f"{row.ideal_images_per_s:.2f}",
        "-" if row.share_of_ideal is None else f"{row.share_of_ideal:.0%}",
    ]


def notes(row: Row) -> list[str]:
    if row.measured is None:
        return [row.error]
    notes = []
    if row.measured.running < row.slots:
        notes.append(f"{row.measured.running} of {row.slots} slots fit in memory or were ever busy together")
    if row.measured.graph_error:
        notes.append(f"decoded without CUDA graphs: {row.measured.graph_error}")
    return notes


def _print_experts(timings: Sequence[Timing]) -> None:
    """Ratios are to the fastest of our own ways, or to the torch reference where ours do not run."""
    print("\nexperts of all layers")
    rows = []
    for timing in timings:
        group = [t for t in timings if t.tokens == timing.tokens and t.ms is not None]
        ours = [t.ms for t in group if t.name.startswith("ours") and t.ms]
        base = min(ours) if ours else next((t.ms for t in group if t.name == "torch reference"), None)
        if timing.ms is None:
            rows.append([timing.name, str(timing.tokens), "-", "-", "-", "-", timing.reason])
            continue
        rows.append(
            [
                timing.name,
                str(timing.tokens),
                f"{timing.ms:.2f}",
                "-" if base is None else f"x{timing.ms / base:.2f}",
                f"{timing.layers}/{timing.num_layers} x{timing.repeats}",
                f"{timing.error:.1e}",
                "",
            ]
        )
    print_table(["way", "tokens", "ms", "ratio", "layers", "off by", ""], rows)


if __name__ == "__main__":
    main()
