"""The table of docs/cards.md: which common cards run the 30B, how many requests at once, and how fast, all computed.

Memory and rates are of the makers' data sheets; the rest follows from the model's geometry by `model_loader`'s own
rules and the assumptions below, which docs/cards.md states. No figure was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from backend.settings import Settings
from model_loader.cards import LEAST_CAPABILITY, Card, judge_memory
from model_loader.geometry import DEFAULT_MODEL, Geometry, geometry_from_config, shipped_config
from model_loader.memory import EXPERT_BYTES, LINEAR_BYTES, SIXTEEN_BIT, kv_bytes_per_token

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
class Model:
    """A card as it is sold. `memory_gib` as torch reports it; the rate is of bfloat16 without sparsity."""

    name: str
    memory_gib: float
    capability: tuple[int, int]
    gb_per_s: float = 0.0
    tflops: float = 0.0


CARDS = (
    Model("RTX 3090", 23.6, (8, 6), 936, 71),
    Model("RTX 4090", 23.6, (8, 9), 1008, 165),
    Model("RTX 5090", 31.3, (12, 0), 1792, 210),
    Model("A10", 22.0, (8, 6), 600, 125),
    Model("L4", 22.0, (8, 9), 300, 121),
    Model("A100 40 GB", 39.4, (8, 0), 1555, 312),
    Model("A100 80 GB", 79.2, (8, 0), 2039, 312),
    Model("H100 80 GB", 79.1, (9, 0), 3350, 989),
    Model("H200", 139.8, (9, 0), 4800, 989),
    Model("RTX 4080, 5080", 15.6, (8, 9)),
    Model("T4", 14.6, (7, 5)),
    Model("RTX 2080 Ti", 10.8, (7, 5)),
    Model("Quadro RTX 6000 (Turing)", 23.6, (7, 5)),
    Model("V100 32 GB", 31.7, (7, 0)),
    Model("P40", 22.4, (6, 1)),
)


def cards_table() -> str:
    config = shipped_config(DEFAULT_MODEL)
    assert config is not None
    geometry = geometry_from_config(config)
    rows = ["| card | memory, GiB | compute capability | requests at once | images/s |", "|---|---:|---:|---:|---:|"]
    rows += [_row(model, geometry) for model in CARDS]
    return "\n".join(rows) + "\n"


def _row(model: Model, geometry: Geometry) -> str:
    capability = ".".join(map(str, model.capability))
    head = f"| {model.name} | {model.memory_gib} | {capability} |"
    if model.capability < LEAST_CAPABILITY:
        return f"{head} refused: {'.'.join(map(str, LEAST_CAPABILITY))} is needed | |"
    plan, found = judge_memory(geometry, Card(model.name, model.memory_gib, model.memory_gib, model.capability))
    if found is not None or plan.num_slots is None:
        return f"{head} none: {plan.needed_bytes / 2**30:.1f} GiB are needed | |"
    slots = min(plan.num_slots, int(Settings.model_fields["max_slots"].default))
    return f"{head} {slots} | {images_per_s(model, geometry, slots):.1f} |"


def images_per_s(model: Model, geometry: Geometry, slots: int) -> float:
    """Answers a second with `slots` requests at a time, all the time."""
    steps = ANSWER_TOKENS * (1 - FORCED)
    decode_s = steps * (_step_bytes(geometry, slots) / (BANDWIDTH_SHARE * model.gb_per_s * 1e9) + STEP_S)
    prefill_s = _prefill_operations(geometry) / (RATE_SHARE * model.tflops * 1e12)
    return slots / (decode_s + slots * prefill_s)


def _step_bytes(geometry: Geometry, slots: int) -> float:
    """What a decode step reads: the experts that `slots` tokens hit if all are as likely, the rest, keys and values."""
    hit = 1 - (1 - geometry.num_experts_per_token / geometry.num_experts) ** slots
    weights = geometry.experts * hit * EXPERT_BYTES + (geometry.attention + geometry.dense_mlp) * LINEAR_BYTES
    weights += ((geometry.head or geometry.embeddings) + geometry.router_and_norms) * SIXTEEN_BIT
    positions = INSTRUCTION_TOKENS + IMAGE_TOKENS + PROMPT_TOKENS + ANSWER_TOKENS / 2
    return weights + slots * positions * kv_bytes_per_token(geometry)


def _prefill_operations(geometry: Geometry) -> float:
    """Of one picture and the words around it: two for each weight that a token or a patch meets."""
    experts = geometry.experts * geometry.num_experts_per_token / geometry.num_experts
    language = experts + geometry.attention + geometry.dense_mlp + geometry.router_and_norms
    patches = IMAGE_TOKENS * geometry.patches_per_image_token
    return 2 * (language * (IMAGE_TOKENS + PROMPT_TOKENS) + geometry.vision * patches)
