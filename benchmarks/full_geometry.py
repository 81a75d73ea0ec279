"""Speed and memory at the size of a Qwen3-VL on one CUDA card, with random 4-bit weights: nothing is downloaded.

`python -m benchmarks.full_geometry [--model Qwen/Qwen3-VL-8B-Instruct] --cap-gib 24 [--json FILE]`: the 30B-A3B or a
dense model of docs/cards.md, made to end within 10 minutes. It makes the model on the card (`random_model`), checks the
kernels against plain torch and tunes them by the engine's own start, then measures the engine (`geometry_engine`):
first with as many requests at once as fit, then the same without each of what lets so many run, then other slots and
sizes of pictures. So what comes first says most, and what there is no time for says least. Each row is told, and FILE
written anew, as soon as it is known. What fails in one row is said there, and the rest goes on. A card that the engine
would refuse is refused in the same words.
`--small`: a small geometry, on a CPU if there is no card, to see that all of it works. Packages that it can do without
are named where they are missing (`stand_ins`). docs/gpu.md says what the columns mean.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.memory_of_torch import KEPT

# isort: split
# what follows imports torch, and the packages that may be missing
import torch

from benchmarks.stand_ins import MISSING

# isort: split
from backend.engine.options import EngineOptions, StartAgainWithout
from backend.engine.process import use_device
from backend.engine.start import Slower, use_kernels
from backend.errors import one_line
from benchmarks.geometry_engine import Load, Measured, measure, release_memory
from benchmarks.random_model import build, experts_hit, small_of
from benchmarks.report import hardware, options, print_table, taken_on, write_json
from model_loader.cards import Card, find_card
from model_loader.choice import Choice
from model_loader.experts.capture import CaptureFailed
from model_loader.experts.plan import plan_for
from model_loader.experts.quantizer import fused_experts
from model_loader.geometry import COMMITS, DEFAULT_MODEL
from model_loader.host import num_cpus
from model_loader.loader import LoadedModel
from model_loader.memory import MAX_SLOTS, whole_blocks
from model_loader.troubles import Trouble

HIT_ROWS = 32
ANSWER_TOKENS, PREFIX_TOKENS = 120, 975
MOST_ANSWER_TOKENS = 512
"""What a request may need, and what is taken for it at once where blocks are not given as an answer grows."""
FULL = Load(256, MAX_SLOTS, ANSWER_TOKENS, PREFIX_TOKENS)
OTHERS = [
    *(replace(FULL, slots=slots) for slots in (32, 16)),
    *(replace(FULL, image_tokens=image) for image in (1024, 576)),
    *(replace(FULL, slots=slots) for slots in (8, 64, 1)),
]
SMALL = Load(16, 24, 40, 40)
SMALL_OTHERS = [replace(SMALL, slots=2)]
TELLING = 4
"""Rows that say most: each may take a quarter of the time that is left."""
LEAST_S = 10.0
"""Rows are left out when less time is left."""


@dataclass(frozen=True, slots=True)
class Row:
    """One load of the engine. `what` it is, where not only its numbers say so. `error` says why there is no figure."""

    load: Load
    measured: Measured | None = None
    error: str = ""
    what: str = ""

    def notes(self) -> list[str]:
        if self.measured is None:
            return [self.error]
        notes = []
        if self.measured.running < self.load.slots:
            notes.append(f"{self.measured.running} of {self.load.slots} slots fit in memory or were ever busy together")
        if self.measured.graph_error:
            notes.append(f"decoded without CUDA graphs: {self.measured.graph_error}")
        return notes


class Report:
    """Rows as they come: told, and written to a file."""

    def __init__(self, loaded: LoadedModel, args: argparse.Namespace, until: float) -> None:
        self._loaded = loaded
        self._args = args
        self._until = until
        told, self._no_graphs = describe(loaded, args.cap_gib, without_graphs=args.without_graphs)
        self._document = {**taken_on(), "missing": MISSING, "cap_gib": args.cap_gib, **told}
        self.rows: list[Row] = []

    def measure(self, load: Load, num_left: int, what: str = "") -> Row:
        """`num_left` rows share the time that is left; the first ones, of which `what` is said, may take more of it."""
        left_s = self._until - time.perf_counter()
        if left_s < LEAST_S and self.rows:
            return self.add(Row(load, error="no time was left", what=what))
        budget_s = left_s / (min(num_left, TELLING) if what else num_left)
        row = run_load(self._loaded, load, self._args.cap_gib, budget_s, self._no_graphs)
        release_memory()
        return self.add(replace(row, what=what))

    def add(self, row: Row) -> Row:
        self.rows.append(row)
        first = self.rows[0].measured
        told = [f"{row.measured.images_per_s:.2f} images/s"] if row.measured else []
        if row.measured and first and row.what and len(self.rows) > 1:
            told.append(f"{row.measured.images_per_s / first.images_per_s:.2f} times the first row")
        what = f" ({row.what})" if row.what else ""
        told += row.notes()
        print(f"{row.load.image_tokens} image tokens, {row.load.slots} slots{what}: {'; '.join(told)}", flush=True)
        self._document["engine"] = [asdict(one) for one in self.rows]
        if self._args.json:  # a fault ends the process
            write_json(self._args.json, self._document)
        return row


def main(arguments: Sequence[str] | None = None, look: Callable[[], Card | Trouble] = find_card) -> None:
    """`look` finds the card; tests put another there."""
    found = look()
    args = _parse(arguments, found)
    started = time.perf_counter()
    for told in [*MISSING, *([KEPT] if KEPT else []), *([] if isinstance(found, Card) else [f"on the CPU: {found}"])]:
        print(told, flush=True)
    device = _prepare(found if isinstance(found, Card) else None, args.cap_gib)
    report = Report(build(small_of(args.model) if args.small else args.model, device), args, started + args.budget_s)
    full, others = (SMALL, SMALL_OTHERS) if args.small else (FULL, OTHERS)
    first = report.measure(full, TELLING + len(others), "all together")
    for number, (what, load) in enumerate(without(full, first.measured)):
        if first.measured and load.mixes and load.slots >= first.measured.running:
            report.add(Row(load, error="all slots fit so, too: the same as the first row", what=what))
        else:
            report.measure(load, TELLING - 1 - number + len(others), what)
    for number, load in enumerate(others):
        report.measure(load, len(others) - number)
    print("\nengine")
    print_table(COLUMNS, [_cells(row, row.measured) for row in report.rows if row.measured])
    print(f"\n{time.perf_counter() - started:.0f} s in all")


def _prepare(card: Card | None, cap_gib: float | None) -> str:
    """Have torch compute as the engine's process does, and return the device."""
    device = "cpu" if card is None else "cuda"
    try:
        use_device(Choice("", device, card, ""), EngineOptions(device=device, vram_gib=cap_gib), num_cpus())
    except StartAgainWithout as error:  # the engine's next process does without by itself
        raise SystemExit(f"{error}. Run it again with PYTORCH_ALLOC_CONF=expandable_segments:False") from error
    return device


def without(full: Load, measured: Measured | None) -> list[tuple[str, Load]]:
    """`full` without mixed steps; then with so few slots as the same memory holds if nothing grows or is shared."""
    found = [("without mixed steps", replace(full, mixes=False))]
    if measured is not None:
        own = whole_blocks(full.image_tokens + MOST_ANSWER_TOKENS + 32)  # 32: the closing tokens, and a part of a block
        shared = full.prefix_tokens // 16 * 16
        growing = max(1, (measured.kv_tokens - shared) // own)
        alone = max(1, measured.kv_tokens // (own + shared))
        found += [
            (f"blocks for {MOST_ANSWER_TOKENS} answer tokens at once", replace(full, slots=min(full.slots, growing))),
            ("and the instruction once a request", replace(full, slots=min(full.slots, alone))),
        ]
    return found


def run_load(loaded: LoadedModel, load: Load, cap_gib: float | None, budget_s: float, no_graphs: str = "") -> Row:
    """Measure one load; what goes wrong becomes the row's `error`. `no_graphs`: as in `measure`."""
    try:
        return Row(load, measure(loaded, load, cap_gib=cap_gib, budget_s=budget_s, no_graphs=no_graphs))
    except CaptureFailed as error:  # torch's memory is unsound from here on; the engine starts a new process
        return Row(load, error=f"no graph could be captured ({one_line(error)}): run it again with --without-graphs")
    except Exception as error:  # a benchmark's border: the other rows go on
        return Row(load, error=one_line(error))


def describe(loaded: LoadedModel, cap_gib: float | None, *, without_graphs: bool = False) -> tuple[dict[str, Any], str]:
    """Check and tune the kernels as the engine's start does, print what is measured on what, and return it. Also why
    decode steps are not captured, "" where they are."""
    plan, slower, no_graphs = "not used on a CPU", list[str](), ""
    if loaded.device.startswith("cuda"):
        plan, found, may_capture = _check_kernels(loaded, without_graphs=without_graphs)
        slower = [f"{code}: {said}" for code, said in found]
        no_graphs = "--without-graphs" if without_graphs else "" if may_capture else "; ".join(slower)
    weights_gib = loaded.model.get_memory_footprint() / 2**30
    text = loaded.model.config.text_config
    routed: dict[str, float] = {}
    told = "no experts: a dense model"
    if fused_experts(loaded.model):
        uniform = 1 - (1 - text.num_experts_per_tok / text.num_experts) ** HIT_ROWS
        routed = {"experts_hit": experts_hit(loaded, HIT_ROWS), "experts_hit_uniform": uniform}
        told = (
            f"experts of a layer hit by {HIT_ROWS} tokens: {routed['experts_hit']:.1%} (uniform routing: {uniform:.1%})"
        )
    release_memory()
    print(
        f"{hardware()}, torch {torch.__version__}, cap {f'{cap_gib:g} GiB' if cap_gib else 'none'}, {loaded.name} with "
        f"random NF4 weights ({weights_gib:.2f} GiB, made in {loaded.load_s:.0f} s)\n"
        f"{told}\n"
        f"kernels: {plan}",
        *slower,
        sep="\n",
        flush=True,
    )
    measured = {"geometry": loaded.name, "weights_gib": weights_gib, "build_s": loaded.load_s, "plan": plan}
    return {**measured, "slower": slower, **routed}, no_graphs


def _check_kernels(loaded: LoadedModel, *, without_graphs: bool) -> tuple[str, Slower, bool]:
    """The plan in words, what is slower than it should be, and whether decode steps can be captured."""
    slower, may_capture = use_kernels(loaded, None, {"graphs": "--without-graphs"} if without_graphs else {})
    plan = plan_for(loaded.model.device)
    if plan.path(1) == "reference":
        return "CANNOT BE USED HERE, see below: what follows is the speed of plain torch", slower, may_capture
    return str(plan), slower, may_capture


COLUMNS = [
    "image", "slots", "run", "img/s", "ms/step", "tok/step", "forced", "GB/s", "ms/prefill", "pics", "in steps",
    "GiB res.", "GiB alloc.", "KV tokens", "",
]  # fmt: skip


def _cells(row: Row, m: Measured) -> list[str]:
    steps = [f"{m.decode_step_ms:.1f}", f"{m.tokens_per_step:.1f}", f"{m.forced:.0%}", f"{m.read_gbs:.1f}"]
    prefills = [f"{m.prefill_ms:.1f}", f"{m.pictures_per_prefill:.1f}", f"{m.steps_share:.0%}"]
    peaks = [f"{gib:.2f}" if gib else "-" for gib in (m.peak_reserved_gib, m.peak_allocated_gib)]
    asked = [row.load.image_tokens, row.load.slots, m.running, f"{m.images_per_s:.2f}"]
    return [str(cell) for cell in [*asked, *steps, *prefills, *peaks, m.kv_tokens, row.what]]


def _parse(arguments: Sequence[str] | None, found: Card | Trouble) -> argparse.Namespace:
    parser = options(__doc__)
    parser.add_argument("--model", choices=list(COMMITS), default=DEFAULT_MODEL, help="its geometry (the 30B-A3B)")
    parser.add_argument("--cap-gib", type=float, help="use at most this much of the card's memory, as a 24 GB card has")
    parser.add_argument("--budget-s", type=float, default=540.0, help="seconds for everything (540)")
    parser.add_argument("--small", action="store_true", help="a small geometry and few requests, to try this program")
    parser.add_argument("--without-graphs", action="store_true", help="decode without CUDA graphs")
    args = parser.parse_args(arguments)
    if not isinstance(found, Card) and not args.small:
        parser.error(f"{found}; --small tries this program on a CPU")
    if args.budget_s <= 0 or (args.cap_gib is not None and args.cap_gib <= 0):
        parser.error("--cap-gib and --budget-s are above 0")
    return args


if __name__ == "__main__":
    main()
