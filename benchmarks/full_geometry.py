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
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from backend.errors import one_line
from benchmarks import experts_baselines, roofline
from benchmarks.experts_baselines import Timing
from benchmarks.geometry_engine import Load, Measured, measure, release_memory
from benchmarks.random_model import build, experts_hit
from benchmarks.report import hardware, options, print_table, write_json
from benchmarks.roofline import Card, Work, ideal_images_per_s, sizes_of
from model_loader.experts import calibrate, use_fused_linears
from model_loader.loader import LoadedModel

HIT_ROWS = 32
EXPERTS_SHARE = 0.15  # of the time, for the experts' baselines
EXPERTS_S = 90.0
USUAL = {"image_tokens": [256, 576, 1024], "slots": [8, 32, 64], "answer_tokens": 120, "prefix_tokens": 350}
SMALL = {"image_tokens": [16, 64], "slots": [2, 4], "answer_tokens": 40, "prefix_tokens": 40}


@dataclass(frozen=True, slots=True)
class Row:
    """One load of the engine. `error` says why there is no figure; `ideal_images_per_s` is None on unknown cards."""

    image_tokens: int
    slots: int
    measured: Measured | None = None
    ideal_images_per_s: float | None = None
    share_of_ideal: float | None = None
    error: str = ""


def _gib(value: float) -> str:
    return f"{value:.2f}" if value else "-"  # a CPU has no peak


COLUMNS: tuple[tuple[str, int, Callable[[Measured], str]], ...] = (
    ("run", 4, lambda m: f"{m.running}"),
    ("img/s", 7, lambda m: f"{m.images_per_s:.2f}"),
    ("tok/s", 7, lambda m: f"{m.tokens_per_s:.0f}"),
    ("ms/step", 8, lambda m: f"{m.decode_step_ms:.1f}"),
    ("tok/step", 8, lambda m: f"{m.tokens_per_step:.1f}"),
    ("ms/prefill", 10, lambda m: f"{m.prefill_ms:.1f}"),
    ("pics", 5, lambda m: f"{m.pictures_per_prefill:.1f}"),
    ("ms vision", 9, lambda m: f"{m.vision_ms:.2f}"),
    ("in steps", 8, lambda m: f"{m.steps_share:.0%}"),
    ("GiB res.", 8, lambda m: _gib(m.peak_reserved_gib)),
    ("GiB alloc.", 10, lambda m: _gib(m.peak_allocated_gib)),
    ("KV tokens", 9, lambda m: f"{m.kv_tokens}"),
    ("forced", 7, lambda m: f"{m.forced_share:.1%}"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    args = _parse(arguments)
    started = time.perf_counter()
    card = _card(args)
    report: dict[str, Any] = {
        "geometry": "small" if args.small else "30b",
        **{name: getattr(args, name) for name in ("cap_gib", "answer_tokens", "prefix_tokens")},
        "card": card and dataclasses.asdict(card),
    }

    def save() -> None:
        report["total_s"] = time.perf_counter() - started
        if args.json:
            write_json(args.json, report)

    if args.device.startswith("cuda") and args.cap_gib:
        total_gib = torch.cuda.get_device_properties(args.device).total_memory / 2**30
        torch.cuda.set_per_process_memory_fraction(min(1.0, args.cap_gib / total_gib))
    loaded = build(report["geometry"], args.device)
    report |= describe(loaded, args, card)
    report |= {"engine": [], "experts": []}
    save()
    engine_end = started + args.budget_s * (1 - EXPERTS_SHARE)
    loads = [Load(t, s, args.answer_tokens, args.prefix_tokens) for t in args.image_tokens for s in args.slots]
    heads = [("image", 5), ("slots", 5), *((name, width) for name, width, _ in COLUMNS), ("ideal img/s", 11)]
    print(" ".join(name.rjust(width) for name, width in [*heads, ("share", 6)]), flush=True)
    for number, load in enumerate(loads):
        row = run_load(loaded, load, card, args.cap_gib, (engine_end - time.perf_counter()) / (len(loads) - number))
        release_memory()
        print(line(row), *(f"\n      {note}" for note in notes(row)), sep="", flush=True)  # a fault ends the process
        report["engine"].append(dataclasses.asdict(row))
        save()
    token_counts = (HIT_ROWS, 256) if args.small else (experts_baselines.DECODE_ROWS, experts_baselines.PREFILL_TOKENS)
    left_s = max(2.0 if args.small else 20.0, started + args.budget_s - time.perf_counter())
    timings = experts_baselines.compare(loaded, token_counts, budget_s=min(left_s, EXPERTS_S))
    report["experts"] = [dataclasses.asdict(timing) for timing in timings]
    save()
    print("\nexperts of all layers")
    print_table(["way", "tokens", "ms", "ratio", "layers", "off by", ""], [_cells(t, timings) for t in timings])
    print(f"\n{report['total_s']:.0f} s in all")


def run_load(loaded: LoadedModel, load: Load, card: Card | None, cap_gib: float | None, budget_s: float) -> Row:
    """Measure one load; what goes wrong becomes the row's `error`."""
    try:
        measured = measure(loaded, load, cap_gib=cap_gib, budget_s=budget_s)
    except Exception as error:  # a benchmark's border: the other rows go on
        return Row(load.image_tokens, load.slots, error=one_line(error))
    if card is None:
        return Row(load.image_tokens, load.slots, measured)
    suffix_tokens = measured.prompt_tokens - load.prefix_tokens - load.image_tokens
    sizes = (load.answer_tokens, measured.forced_share, load.prefix_tokens, suffix_tokens)
    work = Work(load.image_tokens, measured.running, *sizes)
    ideal = ideal_images_per_s(sizes_of(loaded.model.config), card, work)
    return Row(load.image_tokens, load.slots, measured, ideal, measured.images_per_s / ideal)


def describe(loaded: LoadedModel, args: argparse.Namespace, card: Card | None) -> dict[str, Any]:
    """Tune the kernels as the engine's process does, print what is measured on what, and return it."""
    plan = ""
    if loaded.device.startswith("cuda"):
        use_fused_linears(loaded.model)
        plan = str(calibrate(loaded.model))
    weights_gib = loaded.model.get_memory_footprint() / 2**30
    hit, uniform = experts_hit(loaded, HIT_ROWS), sizes_of(loaded.model.config).distinct_experts(HIT_ROWS)
    release_memory()
    print(
        f"{hardware()}, torch {torch.__version__}, cap {f'{args.cap_gib:g} GiB' if args.cap_gib else 'none'}, geometry "
        f"{'small' if args.small else '30b'} with random NF4 weights ({weights_gib:.2f} GiB, made in "
        f"{loaded.load_s:.0f} s)\nprompt {args.prefix_tokens} + image, answer {args.answer_tokens} tokens\n"
        f"experts of a layer hit by {HIT_ROWS} tokens: {hit:.1%} (uniform routing: {uniform:.1%})"
    )
    if card is None:
        print("the roofline needs the card's data sheet: give --bandwidth-gbs and --tflops")
    print(f"kernels: {plan}\n" if plan else "")
    measured = {"weights_gib": weights_gib, "build_s": loaded.load_s, "plan": plan}
    return {**measured, "experts_hit": hit, "experts_hit_uniform": uniform, "experts_hit_rows": HIT_ROWS}


def line(row: Row) -> str:
    cells = [str(row.image_tokens).rjust(5), str(row.slots).rjust(5)]
    cells += [(told(row.measured) if row.measured else "-").rjust(width) for _, width, told in COLUMNS]
    ideal = "-" if row.ideal_images_per_s is None else f"{row.ideal_images_per_s:.2f}"
    share = "-" if row.share_of_ideal is None else f"{row.share_of_ideal:.0%}"
    return " ".join([*cells, ideal.rjust(11), share.rjust(6)])


def notes(row: Row) -> list[str]:
    if row.measured is None:
        return [row.error]
    notes = []
    if row.measured.running < row.slots:
        notes.append(f"{row.measured.running} of {row.slots} slots fit in memory or were ever busy together")
    if row.measured.graph_error:
        notes.append(f"decoded without CUDA graphs: {row.measured.graph_error}")
    return notes


def _cells(timing: Timing, timings: Sequence[Timing]) -> list[str]:
    """Ratios are to the fastest of our own ways, or to the torch reference where ours do not run."""
    if timing.ms is None:
        return [timing.name, str(timing.tokens), "-", "-", "-", "-", timing.reason]
    known = {t.name: t.ms for t in timings if t.tokens == timing.tokens and t.ms}
    base = min((ms for name, ms in known.items() if name.startswith("ours")), default=known.get("torch reference"))
    ratio = f"x{timing.ms / base:.2f}" if base else "-"
    layers = f"{timing.layers}/{timing.num_layers} x{timing.repeats}"
    return [timing.name, str(timing.tokens), f"{timing.ms:.2f}", ratio, layers, f"{timing.error:.1e}", ""]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = options(__doc__)
    parser.add_argument("--cap-gib", type=float, help="use at most this much of the card's memory, as a 24 GB card has")
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
    defaults = SMALL | {"budget_s": 20.0} if args.small else USUAL | {"budget_s": 540.0}
    vars(args).update({name: value for name, value in defaults.items() if getattr(args, name) is None})
    if any(tokens < 4 or round(tokens**0.5) ** 2 != tokens for tokens in args.image_tokens):
        parser.error("--image-tokens: each must be a square number of at least 4, as 256 or 576")
    if min(args.slots) < 1 or args.answer_tokens < 16 or args.prefix_tokens < 16 or args.budget_s <= 0:
        parser.error("--slots are at least 1, --answer-tokens and --prefix-tokens at least 16, --budget-s above 0")
    if args.cap_gib is not None and args.cap_gib <= 0:
        parser.error("--cap-gib is above 0")
    if (args.bandwidth_gbs is None) != (args.tflops is None):
        parser.error("--bandwidth-gbs and --tflops go together")
    return args


def _card(args: argparse.Namespace) -> Card | None:
    if args.tflops is not None:
        return Card(args.bandwidth_gbs, args.tflops)
    return roofline.find_card(torch.cuda.get_device_name(args.device)) if args.device.startswith("cuda") else None


if __name__ == "__main__":
    main()
