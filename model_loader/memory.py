"""What fits on a card: weights, KV cache slots and workspace against its memory, from config.json numbers alone.

Knows parameter counts (`model_loader.geometry`) and the byte sizes of the formats; reads no weights, imports no
torch. The weights are exact to the byte; the workspace is an allowance (its terms are named below), so the engine
does not go by it: it sizes its KV cache by measuring (`backend.engine.sizing`). This plan is for before the download.
Sizes: `_bytes` are bytes, `_gib` are 2**30 bytes. A "24 GB" card has 24 GiB.
"""

from __future__ import annotations

from dataclasses import dataclass

from model_loader.geometry import Geometry

GIB = 2**30
NF4_BLOCK = 64
NF4_BYTES = 0.5 + 4 / NF4_BLOCK  # half a byte a weight, one float32 absmax per block of 64
SIXTEEN_BIT = 2.0
CUDA_CONTEXT_BYTES = int(0.5 * GIB)  # driver context, cuBLAS workspaces, kernels, allocator slack


@dataclass(frozen=True, slots=True)
class Request:
    """The work a slot must hold (tokens), and how much is prefilled or looked at in one pass."""

    text_tokens: int = 1_000
    image_tokens: int = 256
    answer_tokens: int = 512
    prefill_chunk_tokens: int = 4096
    images_per_pass: int = 8

    @property
    def tokens(self) -> int:
        return self.text_tokens + self.image_tokens + self.answer_tokens


@dataclass(frozen=True, slots=True)
class Part:
    """One line of the plan. `num_params` is 0 for what is not weights."""

    name: str
    size_bytes: int
    num_params: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What a card must hold. `num_slots`, `free_bytes` and `fits` are None when no card was named."""

    parts: tuple[Part, ...]
    num_params: int
    weights_bytes: int
    workspace_bytes: int
    kv_slot_bytes: int
    naive_bytes: int
    request: Request
    vram_bytes: int | None

    @property
    def needed_bytes(self) -> int:
        """Weights, workspace and one slot: the least that can answer a request."""
        return self.weights_bytes + self.workspace_bytes + self.kv_slot_bytes

    @property
    def free_bytes(self) -> int | None:
        """Room left for KV slots; negative when the weights alone are too large."""
        return None if self.vram_bytes is None else self.vram_bytes - self.weights_bytes - self.workspace_bytes

    @property
    def num_slots(self) -> int | None:
        return None if self.free_bytes is None else max(0, self.free_bytes // self.kv_slot_bytes)

    @property
    def fits(self) -> bool | None:
        return None if self.num_slots is None else self.num_slots >= 1


def plan_memory(
    geometry: Geometry, *, vram_gib: float | None = None, request: Request | None = None, quantisation: str = "nf4"
) -> MemoryPlan:
    """Plan the memory of `geometry` on a card of `vram_gib` GiB.

    `quantisation` "nf4" packs experts and attention; "none" keeps all in 16 bit. `naive_bytes` is what
    transformers alone needs with `load_in_4bit=True`: it packs only `nn.Linear`, so the experts stay in 16 bit.
    """
    request = request or Request()
    weights = _weights(geometry, packed=quantisation == "nf4")
    workspace = _workspace(geometry, request)
    naive = sum(part.size_bytes for part in _weights(geometry, packed=False))
    naive -= round((geometry.attention + geometry.dense_mlp + geometry.vision_linears) * (SIXTEEN_BIT - NF4_BYTES))
    return MemoryPlan(
        parts=(*weights, *workspace),
        num_params=geometry.total,
        weights_bytes=sum(part.size_bytes for part in weights),
        workspace_bytes=sum(part.size_bytes for part in workspace),
        kv_slot_bytes=kv_bytes_per_token(geometry) * request.tokens,
        naive_bytes=naive,
        request=request,
        vram_bytes=None if vram_gib is None else round(vram_gib * GIB),
    )


def kv_bytes_per_token(geometry: Geometry) -> int:
    """Keys and values of all layers in 16 bit: 98,304 bytes for the 30B."""
    return geometry.num_layers * 2 * geometry.num_kv_heads * geometry.head_dim * 2


def _weights(geometry: Geometry, *, packed: bool) -> tuple[Part, ...]:
    linear, note = (NF4_BYTES, "NF4, float32 absmax") if packed else (SIXTEEN_BIT, "16 bit")

    def part(name: str, num_params: int, bytes_each: float, how: str) -> Part:
        return Part(name, round(num_params * bytes_each), num_params, how)

    return (
        part("experts", geometry.experts, linear, note),
        part("attention", geometry.attention + geometry.dense_mlp, linear, note),
        part("vision", geometry.vision, SIXTEEN_BIT, "16 bit"),
        part("embeddings_and_head", geometry.embeddings + geometry.head, SIXTEEN_BIT, "16 bit"),
        part("router_and_norms", geometry.router_and_norms, SIXTEEN_BIT, "16 bit"),
    )


def _workspace(geometry: Geometry, request: Request) -> tuple[Part, ...]:
    """The allowance beside the weights.

    Scratch: one layer's gate_up stack in 16 bit (long prefills dequantise a whole layer; down reuses it).
    Activations: the routed rows of a prefill chunk, or the patches of one vision pass, whichever is larger.
    """
    hidden, inner = geometry.hidden_size, geometry.moe_intermediate_size
    scratch = geometry.num_experts * 2 * inner * hidden * 2
    routed_row = (2 * hidden + 3 * inner) * 2  # gathered input, gate_up, activation, output: 16 bit
    text = request.prefill_chunk_tokens * (geometry.num_experts_per_token * routed_row + 8 * hidden * 2)
    patches = request.images_per_pass * request.image_tokens * geometry.patches_per_image_token
    vision = patches * (8 * geometry.vision_hidden_size + 2 * geometry.vision_intermediate_size) * 2
    logits = 64 * geometry.vocab_size * 4 * 2  # 64 rows of float32 logits, and their softmax
    return (
        Part("dequantise_scratch", scratch, note="one layer's gate_up in 16 bit"),
        Part("activations", max(text, vision) + logits, note="prefill chunk or vision pass, logits"),
        Part("cuda_context", CUDA_CONTEXT_BYTES, note="driver, libraries, allocator slack"),
    )
