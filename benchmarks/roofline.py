"""The fastest that a card's memory bandwidth and arithmetic allow for this model: pictures a second, computed.

Both limits are taken at 100 %, the phases (vision, prefill, decode) one after another, the instruction's keys cached,
and forced tokens read in the step of the token before them. Routing is taken as uniform. No engine reaches this; what
share of it one does reach is comparable between cards. Pure arithmetic: no torch, no measurement. Raises nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Card:
    """Memory bandwidth in GB/s, and dense bfloat16 TFLOPS with float32 accumulation; both of the maker's data sheet."""

    bandwidth_gbs: float
    tflops: float


CARDS = {
    "RTX 3090": Card(936, 71),
    "RTX 4090": Card(1008, 165),
    "A10": Card(600, 125),
    "L4": Card(300, 121),
    "H100 80GB HBM3": Card(3350, 989),
    "H200": Card(4800, 989),
}
"""By the name torch gives, less "NVIDIA" and "GeForce". A card that is not here needs its two numbers said."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the arithmetic needs of a model. Counts of parameters, but for the last six.

    `active`: the parameters each token meets, without the head. `attention_width`: all query heads of all layers.
    """

    experts: int
    attention: int
    router: int
    head: int
    active: int
    vision_blocks: int
    mergers: int
    expert_share: float
    attention_width: int
    kv_bytes_per_token: int
    vision_width: int
    patches_per_token: int

    def distinct_experts(self, tokens: float) -> float:
        """The share of a layer's experts that `tokens` are routed to, if routing is uniform."""
        return 1.0 - float((1.0 - self.expert_share) ** tokens)

    def weight_bytes(self, tokens: float, absmax_bytes: int) -> float:
        """NF4 bytes of the experts that `tokens` are routed to, and of attention."""
        return (self.experts * self.distinct_experts(tokens) + self.attention) * (0.5 + absmax_bytes / 64)


@dataclass(frozen=True, slots=True)
class Work:
    """One workload, in tokens. `slots` requests run at once; `prefill_tokens` bounds one prefill.

    `absmax_bytes`: 4 for float32 (what prelabel stores), 2 for 16 bit.
    """

    image_tokens: int
    slots: int
    answer_tokens: int = 120
    forced_share: float = 0.4
    prefix_tokens: int = 350
    suffix_tokens: int = 12
    prefill_tokens: int = 8192
    absmax_bytes: int = 4


def sizes_of(config: Any) -> Sizes:
    """Read the sizes off a `Qwen3VLMoeConfig`."""
    text, vision = config.text_config, config.vision_config
    layers, hidden, heads = text.num_hidden_layers, text.hidden_size, text.num_attention_heads
    query, key_value = heads * text.head_dim, text.num_key_value_heads * text.head_dim
    experts = layers * text.num_experts * 3 * hidden * text.moe_intermediate_size
    attention = layers * (2 * hidden * query + 2 * hidden * key_value)
    router = layers * text.num_experts * hidden
    share = text.num_experts_per_tok / text.num_experts
    width, merge = vision.hidden_size, vision.spatial_merge_size**2
    merged = width * merge
    num_mergers = 1 + len(vision.deepstack_visual_indexes)
    return Sizes(
        experts=experts,
        attention=attention,
        router=router,
        head=text.vocab_size * hidden,
        active=attention + router + int(experts * share),
        vision_blocks=vision.depth * (4 * width**2 + 2 * width * vision.intermediate_size),
        mergers=num_mergers * (merged**2 + merged * vision.out_hidden_size),
        expert_share=share,
        attention_width=query * layers,
        kv_bytes_per_token=2 * layers * key_value * 2,
        vision_width=width * vision.depth,
        patches_per_token=merge,
    )


def find_card(name: str) -> Card | None:
    """Return the card that torch calls `name`, None if its numbers are not known here. Only whole names match."""
    return CARDS.get(" ".join(name.replace("NVIDIA", "").replace("GeForce", "").split()))


def ideal_images_per_s(sizes: Sizes, card: Card, work: Work) -> float:
    """Return the pictures a second at 100 % of both limits."""
    return 1 / (vision_s(sizes, card, work) + prefill_s(sizes, card, work) + decode_s(sizes, card, work))


def vision_s(sizes: Sizes, card: Card, work: Work) -> float:
    """Seconds of the vision tower for one picture."""
    patches = sizes.patches_per_token * work.image_tokens
    attention = 4 * patches**2 * sizes.vision_width
    flops = 2 * sizes.vision_blocks * patches + 2 * sizes.mergers * work.image_tokens + attention
    return flops / (card.tflops * 1e12)


def prefill_s(sizes: Sizes, card: Card, work: Work) -> float:
    """Seconds of the prefill for one picture, as many together as `prefill_tokens` allow."""
    new = work.image_tokens + work.suffix_tokens
    together = max(1, min(work.slots, work.prefill_tokens // new))
    tokens = together * new
    attention = together * 4 * new * (work.prefix_tokens + new / 2) * sizes.attention_width
    flops = tokens * 2 * sizes.active + together * 2 * sizes.head + attention
    num_bytes = sizes.weight_bytes(tokens, work.absmax_bytes)
    return max(flops / (card.tflops * 1e12), num_bytes / (card.bandwidth_gbs * 1e9)) / together


def decode_s(sizes: Sizes, card: Card, work: Work) -> float:
    """Seconds of all decode steps for one picture, when `slots` of them decode together."""
    steps = work.answer_tokens * (1 - work.forced_share)
    per_step = work.answer_tokens / steps
    context = work.prefix_tokens + work.image_tokens + work.suffix_tokens + work.answer_tokens / 2
    num_bytes = sizes.weight_bytes(work.slots * per_step, work.absmax_bytes) + 2 * (sizes.router + sizes.head)
    num_bytes += work.slots * context * sizes.kv_bytes_per_token
    attention = per_step * 4 * context * sizes.attention_width
    flops = work.slots * (per_step * 2 * sizes.active + 2 * sizes.head + attention)
    return steps * max(num_bytes / (card.bandwidth_gbs * 1e9), flops / (card.tflops * 1e12)) / work.slots
