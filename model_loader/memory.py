"""What fits on a card: how many requests run at once, from config.json numbers alone.

One rule for `prelabel doctor`, for "auto" and for the engine: of the budget MARGIN stays free, weights and workspace go
off, and the rest are positions of the KV cache, in which `requests_at_once` counts. The engine puts the peak that it
measures in the place of weights and workspace (`backend.engine.sizing`); the weights are exact to the byte here, the
workspace is an allowance whose terms are named below. Reads no weights, imports no torch.
Sizes: `_bytes` are bytes, `_gib` are 2**30 bytes. A "24 GB" card has 24 GiB, of which torch sees 23.6.
"""

from __future__ import annotations

from dataclasses import dataclass

from model_loader.geometry import Geometry

GIB = 2**30
NF4_BLOCK = 64
SIXTEEN_BIT = 2.0
EXPERT_BYTES = 0.5 + 2 / NF4_BLOCK  # half a byte a weight, one bfloat16 absmax a block
LINEAR_BYTES = 0.5 + 4 / NF4_BLOCK  # bitsandbytes keeps its absmax in float32

CUDA_CONTEXT_BYTES = GIB // 2
"""What CUDA's driver and libraries hold of a card beside torch's memory."""
MARGIN = 0.04
"""Share of the budget that stays free: CUDA graphs, kernels loaded later, masks of instructions longer than planned,
what torch's allocator rounds up, and what other programs may still take."""
KV_BLOCK_TOKENS = 16
"""Positions of the KV cache are handed out in blocks of so many."""
PREFILL_TOKENS = 4096
MAX_SLOTS = 128
"""Requests that run at once where nobody says, if memory allows."""
VISION_PASS_TOKENS = 2048
"""Most image tokens of one pass of the vision tower: 8 pictures of 256."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the plan takes a request for, in tokens.

    The instruction (of the ready-made ecommerce.zh: 975) is held once for all requests at work on it, in whole blocks.
    Image and answer are each request's own. A request of `longest_tokens` must find room, too.
    """

    instruction_tokens: int = 975
    image_tokens: int = 256
    answer_tokens: int = 120
    longest_tokens: int = 4096

    @property
    def shared_tokens(self) -> int:
        return self.instruction_tokens - self.instruction_tokens % KV_BLOCK_TOKENS

    @property
    def own_tokens(self) -> int:
        return whole_blocks(self.instruction_tokens - self.shared_tokens + self.image_tokens + self.answer_tokens)


def whole_blocks(tokens: int) -> int:
    """Positions of the blocks that `tokens` need."""
    return -(-tokens // KV_BLOCK_TOKENS) * KV_BLOCK_TOKENS


def budget_bytes(card_gib: float, vram_gib: float | None = None, free_gib: float | None = None) -> int:
    """What prelabel may take of a card of `card_gib`, CUDA's context not counted.

    `vram_gib`: the setting, context included. `free_gib`: what was free, or torch's already, when CUDA's context was
    there (None: not measured, as if nothing else ran on the card).
    """
    most = int(min(card_gib, card_gib if vram_gib is None else vram_gib) * GIB) - CUDA_CONTEXT_BYTES
    return max(0, most if free_gib is None else min(most, int(free_gib * GIB)))


def kv_positions(budget_bytes: int, other_bytes: int, position_bytes: int) -> int:
    """Positions of the KV cache that fit beside `other_bytes` of weights and workspace. Negative: those do not fit."""
    return (int(budget_bytes * (1 - MARGIN)) - other_bytes) // position_bytes


def requests_at_once(positions: int, request: Request, max_slots: int) -> int:
    """How many requests, `max_slots` at most, a KV cache of `positions` holds. 0 if a longest one finds no room."""
    if positions < whole_blocks(request.longest_tokens) + KV_BLOCK_TOKENS:
        return 0
    return max(1, min(max_slots, (positions - request.shared_tokens) // request.own_tokens))


@dataclass(frozen=True, slots=True)
class Part:
    """One line of the plan. `num_params` is 0 for what is not weights."""

    name: str
    size_bytes: int
    num_params: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What a card must hold. `num_slots`, `positions`, `free_bytes` and `fits` are None when no card was named.

    `has_scratch`: whether long prefills may unpack a layer's experts to 16 bit. `host_bytes`: of the token embedding,
    where it is kept in the machine's memory, from which a step takes the few rows that it needs; else 0.
    """

    parts: tuple[Part, ...]
    num_params: int
    weights_bytes: int
    workspace_bytes: int
    position_bytes: int
    naive_bytes: int
    request: Request
    max_slots: int
    has_scratch: bool
    host_bytes: int
    vram_bytes: int | None
    budget_bytes: int | None

    @property
    def kv_slot_bytes(self) -> int:
        """The KV cache that each further request takes."""
        return self.position_bytes * self.request.own_tokens

    @property
    def needed_bytes(self) -> int:
        """The smallest card that can answer a request of the longest kind, its margin and CUDA's context included."""
        longest = (whole_blocks(self.request.longest_tokens) + KV_BLOCK_TOKENS) * self.position_bytes
        others = self.weights_bytes + self.host_bytes + self.workspace_bytes  # all weights are loaded to the card first
        return round((others + longest) / (1 - MARGIN)) + CUDA_CONTEXT_BYTES

    @property
    def offered_bytes(self) -> int | None:
        """What other programs leave of `vram_bytes`, CUDA's context included: to be compared with `needed_bytes`."""
        return None if self.budget_bytes is None else self.budget_bytes + CUDA_CONTEXT_BYTES

    @property
    def positions(self) -> int | None:
        """Of the KV cache; negative when weights and workspace alone are too large."""
        if self.budget_bytes is None:
            return None
        return kv_positions(self.budget_bytes, self.weights_bytes + self.workspace_bytes, self.position_bytes)

    @property
    def free_bytes(self) -> int | None:
        return None if self.positions is None else self.positions * self.position_bytes

    @property
    def num_slots(self) -> int | None:
        return None if self.positions is None else requests_at_once(self.positions, self.request, self.max_slots)

    @property
    def fits(self) -> bool | None:
        return None if self.num_slots is None else self.num_slots >= 1


def plan_memory(
    geometry: Geometry,
    *,
    vram_gib: float | None = None,
    free_gib: float | None = None,
    request: Request | None = None,
    max_slots: int = MAX_SLOTS,
    quantisation: str = "nf4",
) -> MemoryPlan:
    """Plan the memory of `geometry` on a card of `vram_gib` GiB, of which `free_gib` were found free (`budget_bytes`).

    `quantisation` "nf4" packs experts, attention and dense MLPs; "none" keeps all in 16 bit. `naive_bytes` is what
    transformers alone needs with `load_in_4bit=True`: it packs only `nn.Linear`, so the experts stay in 16 bit.
    The scratch is planned where as many requests run beside it as are asked for; the token embedding stays off the card
    where fewer do even without the scratch, unless the head is the same matrix.
    """
    packed = quantisation == "nf4"
    request = request or Request()
    naive = sum(part.size_bytes for part in _weights(geometry, packed=False))
    naive -= round((geometry.attention + geometry.dense_mlp + geometry.vision_linears) * (SIXTEEN_BIT - LINEAR_BYTES))

    def plan(*, has_scratch: bool, embedding_on_host: bool = False, rows: int = 1) -> MemoryPlan:
        weights = _weights(geometry, packed=packed, embedding_on_host=embedding_on_host)
        workspace = _workspace(geometry, request, rows, has_scratch=has_scratch)
        return MemoryPlan(
            parts=(*weights, *workspace),
            num_params=geometry.total,
            weights_bytes=sum(part.size_bytes for part in weights),
            workspace_bytes=sum(part.size_bytes for part in workspace),
            position_bytes=kv_bytes_per_token(geometry),
            naive_bytes=naive,
            request=request,
            max_slots=max_slots,
            has_scratch=has_scratch,
            host_bytes=_embedding_bytes(geometry) if embedding_on_host else 0,
            vram_bytes=None if vram_gib is None else round(vram_gib * GIB),
            budget_bytes=None if vram_gib is None else budget_bytes(vram_gib, free_gib=free_gib),
        )

    def filled(**how: bool) -> MemoryPlan:
        most = plan(**how).num_slots  # no more rows than these ever meet the head
        return plan(**how, rows=most or 1)

    found = filled(has_scratch=packed)
    if found.num_slots != max_slots:
        found = filled(has_scratch=False)
    if found.fits and found.num_slots != max_slots and geometry.head:
        found = filled(has_scratch=False, embedding_on_host=True)
    return found


def kv_bytes_per_token(geometry: Geometry) -> int:
    """Keys and values of all layers in 16 bit: 98,304 bytes for the 30B."""
    return geometry.num_layers * 2 * geometry.num_kv_heads * geometry.head_dim * 2


def _weights(geometry: Geometry, *, packed: bool, embedding_on_host: bool = False) -> tuple[Part, ...]:
    def part(name: str, num_params: int, bytes_each: float = SIXTEEN_BIT, how: str = "16 bit") -> Part:
        return Part(name, round(num_params * bytes_each), num_params, how)

    tables = geometry.embeddings + geometry.head
    on_card = tables * SIXTEEN_BIT - (_embedding_bytes(geometry) if embedding_on_host else 0)
    how = "16 bit; the embedding in the machine's own memory" if embedding_on_host else "16 bit"
    expert = (EXPERT_BYTES, "NF4, bfloat16 absmax") if packed else ()
    linear = (LINEAR_BYTES, "NF4, float32 absmax") if packed else ()
    parts = (
        part("experts", geometry.experts, *expert),
        part("attention", geometry.attention, *linear),
        part("dense_mlp", geometry.dense_mlp, *linear),
        part("vision", geometry.vision),
        Part("embeddings_and_head", round(on_card), tables, how),
        part("router_and_norms", geometry.router_and_norms),
    )
    return tuple(part for part in parts if part.num_params)


def _embedding_bytes(geometry: Geometry) -> int:
    return round(geometry.embeddings * SIXTEEN_BIT)


def _workspace(geometry: Geometry, request: Request, rows: int, *, has_scratch: bool) -> tuple[Part, ...]:
    """The allowance beside the weights: the scratch, and the largest of what a step holds one after the other.

    Scratch: one layer's gate_up stack in 16 bit (down reuses it). Text: of a prefill the routed rows, or a dense MLP's
    gate, up and product beside its weight in 16 bit; hidden states and masks. Vision: the patches of a pass, whose
    queries and keys are turned in float32. Head: logits in 16 and 32 bit, probabilities, and the mask unpacked.
    """
    hidden, inner, wide = geometry.hidden_size, geometry.moe_intermediate_size, geometry.intermediate_size
    routed = PREFILL_TOKENS * geometry.num_experts_per_token * (2 * hidden + 3 * inner) * 2
    dense = (PREFILL_TOKENS * 3 + hidden) * wide * 2
    text = max(routed, dense) + PREFILL_TOKENS * 8 * hidden * 2
    patches = max(VISION_PASS_TOKENS, request.image_tokens) * geometry.patches_per_image_token
    turned, widened = 44 * geometry.vision_hidden_size, 8 * geometry.vision_hidden_size
    vision = patches * max(turned, widened + 4 * geometry.vision_intermediate_size)
    vision += PREFILL_TOKENS * 4 * hidden * 2  # pictures that are through: embeddings and DeepStack
    head = rows * geometry.vocab_size * 13
    activations = Part("activations", max(text, vision, head), note="prefill, vision pass or logits")
    if not has_scratch or not geometry.num_experts:
        return (activations,)
    scratch = geometry.num_experts * 2 * inner * hidden * 2
    return (Part("dequantise_scratch", scratch, note="one layer's gate_up in 16 bit"), activations)
