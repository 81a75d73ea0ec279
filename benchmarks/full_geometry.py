"""Speed and memory at the size of Qwen3-VL-30B-A3B on one CUDA card, with random 4-bit weights: nothing is downloaded.

`python -m benchmarks.full_geometry --cap-gib 24 [--json FILE]`, made to end within 10 minutes. It makes the model on
the card (`random_model`), checks the kernels against plain torch and tunes them as the engine does at its start, then
measures the engine for each number of image tokens and slots (`geometry_engine`). Each row is told, and FILE written
anew, as soon as it is known. What fails in one row is said there, and the rest goes on. `--small`: a small geometry, on
a CPU if there is no card, to see that all of it works. docs/gpu.md says what the columns mean.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from backend.errors import one_line
from benchmarks.geometry_engine import Load, Measured, measure, release_memory
from benchmarks.random_model import build, experts_hit
from benchmarks.report import hardware, options, print_table, taken_on, write_json
from model_loader.experts import calibrate, use_fused_linears
from model_loader.experts.plan import REFERENCE
from model_loader.loader import LoadedModel

HIT_ROWS = 32
ANSWER_TOKENS, PREFIX_TOKENS = 120, 350
LOADS = [Load(image, slots, ANSWER_TOKENS, PREFIX_TOKENS) for image in (256, 576, 1024) for slots in (8, 32, 64)]
SMALL = [Load(16, slots, 40, 40) for slots in (2, 4)]


@dataclass(frozen=True, slots=True)
class Row:
    """One load of the engine. `error` says why there is no figure."""

    load: Load
    measured: Measured | None = None
    error: str = ""

    def notes(self) -> list[str]:
        if self.measured is None:
            return [self.error]
        notes = []
        if self.measured.running < self.load.slots:
            notes.append(f"{self.measured.running} of {self.load.slots} slots fit in memory or were ever busy together")
        if self.measured.graph_error:
            notes.append(f"decoded without CUDA graphs: {self.measured.graph_error}")
        return notes


def main(arguments: Sequence[str] | None = None) -> None:
    args = _parse(arguments)
    started = time.perf_counter()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and args.cap_gib:
        total_gib = torch.cuda.get_device_properties(device).total_memory / 2**30
        torch.cuda.set_per_process_memory_fraction(min(1.0, args.cap_gib / total_gib))
    loaded = build("small" if args.small else "30b", device)
    report = {**taken_on(), "cap_gib": args.cap_gib, **describe(loaded, args.cap_gib), "engine": []}
    rows: list[Row] = []
    loads = SMALL if args.small else LOADS
    for number, load in enumerate(loads):
        left_s = started + args.budget_s - time.perf_counter()
        rows.append(run_load(loaded, load, args.cap_gib, left_s / (len(loads) - number)))
        release_memory()
        told = "; ".join([*(f"{m.images_per_s:.2f} images/s" for m in [rows[-1].measured] if m), *rows[-1].notes()])
        print(f"{load.image_tokens} image tokens, {load.slots} slots: {told}", flush=True)
        report["engine"].append(asdict(rows[-1]))
        if args.json:  # a fault ends the process
            write_json(args.json, report)
    print("\nengine")
    print_table(COLUMNS, [_cells(row.load, row.measured) for row in rows if row.measured])
    print(f"\n{time.perf_counter() - started:.0f} s in all")


def run_load(loaded: LoadedModel, load: Load, cap_gib: float | None, budget_s: float) -> Row:
    """Measure one load; what goes wrong becomes the row's `error`."""
    try:
        return Row(load, measure(loaded, load, cap_gib=cap_gib, budget_s=budget_s))
    except Exception as error:  # a benchmark's border: the other rows go on
        return Row(load, error=one_line(error))


def describe(loaded: LoadedModel, cap_gib: float | None) -> dict[str, Any]:
    """Check and tune the kernels as the engine's process does, print what is measured on what, and return it."""
    plan = "not used on a CPU"
    if loaded.device.startswith("cuda"):
        use_fused_linears(loaded.model)
        plan = str(calibrate(loaded.model))
        if plan == str(REFERENCE):
            plan = "CANNOT BE USED HERE, see above: what follows is the speed of plain torch"
    weights_gib = loaded.model.get_memory_footprint() / 2**30
    text = loaded.model.config.text_config
    uniform = 1 - (1 - text.num_experts_per_tok / text.num_experts) ** HIT_ROWS
    hit = experts_hit(loaded, HIT_ROWS)
    release_memory()
    print(
        f"{hardware()}, torch {torch.__version__}, cap {f'{cap_gib:g} GiB' if cap_gib else 'none'}, {loaded.name} with "
        f"random NF4 weights ({weights_gib:.2f} GiB, made in {loaded.load_s:.0f} s)\n"
        f"experts of a layer hit by {HIT_ROWS} tokens: {hit:.1%} (uniform routing: {uniform:.1%})\n"
        f"kernels: {plan}",
        flush=True,
    )
    measured = {"geometry": loaded.name, "weights_gib": weights_gib, "build_s": loaded.load_s, "plan": plan}
    return {**measured, "experts_hit": hit, "experts_hit_uniform": uniform}


COLUMNS = [
    "image", "slots", "run", "img/s", "ms/step", "tok/step", "GB/s", "ms/prefill", "pics", "in steps", "GiB res.",
    "GiB alloc.", "KV tokens",
]  # fmt: skip


def _cells(load: Load, m: Measured) -> list[str]:
    steps = [f"{m.decode_step_ms:.1f}", f"{m.tokens_per_step:.1f}", f"{m.read_gbs:.1f}"]
    prefills = [f"{m.prefill_ms:.1f}", f"{m.pictures_per_prefill:.1f}", f"{m.steps_share:.0%}"]
    peaks = [f"{gib:.2f}" if gib else "-" for gib in (m.peak_reserved_gib, m.peak_allocated_gib)]
    told = [load.image_tokens, load.slots, m.running, f"{m.images_per_s:.2f}", *steps, *prefills, *peaks, m.kv_tokens]
    return [str(cell) for cell in told]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = options(__doc__)
    parser.add_argument("--cap-gib", type=float, help="use at most this much of the card's memory, as a 24 GB card has")
    parser.add_argument("--budget-s", type=float, default=540.0, help="seconds for everything (540)")
    parser.add_argument("--small", action="store_true", help="a small geometry and few requests, to try this program")
    args = parser.parse_args(arguments)
    if not torch.cuda.is_available() and not args.small:
        parser.error("no CUDA card was found; --small tries this program on a CPU")
    if args.budget_s <= 0 or (args.cap_gib is not None and args.cap_gib <= 0):
        parser.error("--cap-gib and --budget-s are above 0")
    return args


if __name__ == "__main__":
    main()
