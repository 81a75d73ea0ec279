"""The tables of docs/cards.md: what common cards run, how many requests at once, and how fast, all computed.

Memory and rates are of the makers' data sheets; the rest follows from the models' geometries by `model_loader`'s own
rules and the assumptions below, which docs/cards.md states. No figure was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from backend.settings import Settings
from model_loader.cards import LEAST_CAPABILITY, Card, judge_memory
from model_loader.choice import best_on
from model_loader.geometry import COMMITS, Geometry, geometry_from_config
from model_loader.memory import EXPERT_BYTES, GIB, LINEAR_BYTES, SIXTEEN_BIT, kv_bytes_per_token, plan_memory
from model_loader.sources import find_config

INSTRUCTION_TOKENS = 975  # of the ready-made ecommerce.zh
IMAGE_TOKENS = 256
PROMPT_TOKENS = 7  # around the picture
ANSWER_TOKENS = 120
FORCED = 0.17
"""The share of an answer's tokens that the grammar leaves no choice for: they take no step."""
BANDWIDTH_SHARE = 0.7
RATE_SHARE = 0.4
STEP_S = 0.005
"""Of a decode step, beside what is read: kernels' starts, and the host."""


@dataclass(frozen=True, slots=True)
class Sold:
    """A card as it is sold. `memory_gib` as torch reports it; the rate is of bfloat16 without sparsity."""

    name: str
    memory_gib: float
    capability: tuple[int, int]
    gb_per_s: float = 0.0
    tflops: float = 0.0

    @property
    def card(self) -> Card:
        """One that nothing else uses."""
        return Card(self.name, self.memory_gib, self.memory_gib, self.capability)


CARDS = (
    Sold("RTX 3090", 23.6, (8, 6), 936, 71),
    Sold("RTX 4090", 23.6, (8, 9), 1008, 165),
    Sold("RTX 5090", 31.3, (12, 0), 1792, 210),
    Sold("A10", 22.0, (8, 6), 600, 125),
    Sold("L4", 22.0, (8, 9), 300, 121),
    Sold("A100 40 GB", 39.4, (8, 0), 1555, 312),
    Sold("A100 80 GB", 79.2, (8, 0), 2039, 312),
    Sold("H100 80 GB", 79.1, (9, 0), 3350, 989),
    Sold("H200", 139.8, (9, 0), 4800, 989),
    Sold("RTX 4080", 15.6, (8, 9), 717, 97),
    Sold("RTX 4060 Ti 16 GB", 15.6, (8, 9), 288, 44),
    Sold("RTX 4070", 11.6, (8, 9), 504, 58),
    Sold("RTX 3060 12 GB", 11.6, (8, 6), 360, 25),
    Sold("RTX 4060", 7.6, (8, 9), 272, 30),
    Sold("T4", 14.6, (7, 5)),
    Sold("RTX 2080 Ti", 10.8, (7, 5)),
    Sold("Quadro RTX 6000 (Turing)", 23.6, (7, 5)),
    Sold("V100 32 GB", 31.7, (7, 0)),
    Sold("P40", 22.4, (6, 1)),
)


SIZES_GIB = {"8 GB": 7.6, "12 GB": 11.6, "16 GB": 15.6, "24 GB": 23.6, "32 GB": 31.3}
"""What torch reports of the common sizes."""
MAX_SLOTS = int(Settings.model_fields["max_slots"].default)


def cards_table() -> str:
    """What `auto` takes on each card."""
    rows = [
        "| card | memory, GiB | compute capability | `auto` takes | requests at once | images/s |",
        "|---|---:|---:|---|---:|---:|",
    ]
    return "\n".join([*rows, *map(_card_row, CARDS)]) + "\n"


def models_table() -> str:
    """What each model needs, and how many requests at once it answers on cards of the common sizes."""
    sizes = "".join(f" {size} |" for size in SIZES_GIB)
    rows = [
        f"| model | parameters, billion | download, GiB | 4-bit weights, GiB | least card, GiB |{sizes}",
        "|---|" + "---:|" * (4 + len(SIZES_GIB)),
    ]
    return "\n".join([*rows, *map(_model_row, COMMITS)]) + "\n"


def _card_row(sold: Sold) -> str:
    capability = ".".join(map(str, sold.capability))
    head = f"| {sold.name} | {sold.memory_gib} | {capability} |"
    if sold.capability < LEAST_CAPABILITY:
        return f"{head} refused: {'.'.join(map(str, LEAST_CAPABILITY))} is needed | | |"
    model, plan, _ = best_on(sold.card, max_slots=MAX_SLOTS)
    slots = plan.num_slots or 0
    return f"{head} {_short(model)} | {slots} | {images_per_s(sold, geometry_of(model), slots):.1f} |"


def _model_row(model: str) -> str:
    geometry = geometry_of(model)
    plan = plan_memory(geometry)
    figures = [geometry.total / 1e9, geometry.total * SIXTEEN_BIT / GIB, plan.weights_bytes / GIB]
    figures.append(plan.needed_bytes / GIB)
    cells = [f"{figure:.1f}" for figure in figures]
    for memory_gib in SIZES_GIB.values():
        card = Card("", memory_gib, memory_gib, LEAST_CAPABILITY)
        cells.append(str(judge_memory(geometry, card, max_slots=MAX_SLOTS)[0].num_slots or "-"))
    return f"| `{model}` | {' | '.join(cells)} |"


def geometry_of(model: str) -> Geometry:
    return geometry_from_config(find_config(model))


def _short(model: str) -> str:
    return model.removeprefix("Qwen/Qwen3-VL-").removesuffix("-Instruct")


def images_per_s(sold: Sold, geometry: Geometry, slots: int) -> float:
    """Answers a second with `slots` requests at a time, all the time."""
    steps = ANSWER_TOKENS * (1 - FORCED)
    rate = RATE_SHARE * sold.tflops * 1e12
    reading_s = _step_bytes(geometry, slots) / (BANDWIDTH_SHARE * sold.gb_per_s * 1e9)
    computing_s = 2 * slots * (_met_by_a_token(geometry) + (geometry.head or geometry.embeddings)) / rate
    decode_s = steps * (max(reading_s, computing_s) + STEP_S)
    prefill_s = _prefill_operations(geometry) / rate
    return slots / (decode_s + slots * prefill_s)


def _step_bytes(geometry: Geometry, slots: int) -> float:
    """What a decode step reads: the experts that `slots` tokens hit if all are as likely, the rest, keys and values."""
    hit = 1 - (1 - _routed_share(geometry)) ** slots
    weights = geometry.experts * hit * EXPERT_BYTES + (geometry.attention + geometry.dense_mlp) * LINEAR_BYTES
    weights += ((geometry.head or geometry.embeddings) + geometry.router_and_norms) * SIXTEEN_BIT
    positions = INSTRUCTION_TOKENS + IMAGE_TOKENS + PROMPT_TOKENS + ANSWER_TOKENS / 2
    return weights + slots * positions * kv_bytes_per_token(geometry)


def _prefill_operations(geometry: Geometry) -> float:
    """Of one picture and the words around it: two for each weight that a token or a patch meets."""
    patches = IMAGE_TOKENS * geometry.patches_per_image_token
    return 2 * (_met_by_a_token(geometry) * (IMAGE_TOKENS + PROMPT_TOKENS) + geometry.vision * patches)


def _met_by_a_token(geometry: Geometry) -> float:
    """Weights of the language model's layers that one token is multiplied with."""
    experts = geometry.experts * _routed_share(geometry)
    return experts + geometry.attention + geometry.dense_mlp + geometry.router_and_norms


def _routed_share(geometry: Geometry) -> float:
    """Of the experts, those that a token is routed to; a dense model has none."""
    return geometry.num_experts_per_token / max(1, geometry.num_experts)
