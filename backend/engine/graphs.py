"""The decode step as CUDA graphs, one for each number of tokens it is padded to.

A 48-layer step launches some thousands of small kernels; replayed as a graph they cost one launch. Inputs are static
tensors that `run` fills, embeddings among them: their matrix may be on the host. Padding tokens write to a scratch
position of the pool, see one key, and are routed to no expert, so they read no expert weights. Raises whatever
capturing raises: CaptureFailed, torch.OutOfMemoryError.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from backend.engine.attention import AttentionStep, InPlaceGroup
from backend.engine.cache import KvPool
from backend.engine.embedding import embed
from backend.engine.kv_blocks import BLOCK_TOKENS, blocks_for
from model_loader.experts.capture import captured
from model_loader.experts.self_check import difference

EXAMPLE_START = 20  # tokens before those of the step that is compared
SIZES = (8, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
TOKENS_A_ROW = 1.5
"""What a decode step of many rows seldom exceeds: each row's chosen token, and those that its grammar forces."""


def graph_sizes(max_slots: int) -> tuple[int, ...]:
    """The numbers of tokens to capture: up to the first of SIZES that holds a step of `max_slots` rows."""
    enough = next((size for size in SIZES if size >= TOKENS_A_ROW * max_slots), SIZES[-1])
    return tuple(size for size in SIZES if size <= enough)


class Graph(Protocol):
    def replay(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Step:
    """What a step of one size reads and writes.

    `embeddings`, `hidden` [tokens, H]; `places` [5, tokens] int64: mRoPE positions (3), write index, visible keys;
    `table` [tokens, blocks] int32: the blocks of each token's slot.
    """

    embeddings: torch.Tensor
    places: torch.Tensor
    table: torch.Tensor
    hidden: torch.Tensor


class DecodeGraphs:
    """Graphs of `language_model` over `pool`, whose last position is the scratch position: a block of its own.

    `max_blocks`: the most blocks of a slot.
    """

    def __init__(
        self,
        language_model: Any,
        pool: KvPool,
        max_blocks: int,
        sizes: tuple[int, ...],
        capture: Callable[[Callable[[], None]], Graph] | None = None,
    ) -> None:
        """`capture` records a step; tests on a CPU put one there that runs it again instead."""
        self._language_model = language_model
        self._pool = pool
        self._max_blocks = max_blocks
        self._scratch_block = (pool.num_positions - 1) // BLOCK_TOKENS
        self._device = pool.buffer.device
        self._is_padding: torch.Tensor | None = None
        self._hooks = [
            module.register_forward_hook(self._drop_padding)
            for name, module in language_model.named_modules()
            if name.endswith(".mlp.gate")
        ]
        self._captured: dict[int, tuple[_Step, Graph]] = {}
        try:
            capture = capture or _CudaCapture()
            for size in sorted(sizes, reverse=True):  # largest first: the smaller ones share its memory
                self._captured[size] = self._capture(size, capture)
        except BaseException:
            self.close()  # else the hooks would go on with the padding of the step that failed
            raise

    @property
    def max_tokens(self) -> int:
        return max(self._captured)

    def close(self) -> None:
        """Undo what was hooked into the model, and free the graphs."""
        for hook in self._hooks:
            hook.remove()
        self._captured.clear()
        self._is_padding = None

    def run(self, inputs: NDArray[np.int64], table: NDArray[np.int32]) -> torch.Tensor:
        """Run a step over N <= `max_tokens` tokens. Returns the hidden states [N, H], valid until the next step.

        `inputs` [6, N]: ids, mRoPE positions (3), write index, visible keys. `table` [N, W]: the blocks of each
        token's slot, W <= `max_blocks`.
        """
        num_tokens = inputs.shape[1]
        size = min(size for size in self._captured if size >= num_tokens)
        step, graph = self._captured[size]
        padded = self._padding(size)
        padded[:, :num_tokens] = inputs[1:]
        step.places.copy_(torch.from_numpy(padded), non_blocking=False)
        step.embeddings[:num_tokens].copy_(embed(self._language_model, inputs[0], self._device))
        padded_table = np.full((size, table.shape[1]), self._scratch_block, dtype=np.int32)
        padded_table[:num_tokens] = table
        step.table[:, : table.shape[1]].copy_(torch.from_numpy(padded_table), non_blocking=False)
        graph.replay()
        return step.hidden[:num_tokens]

    def wrong(self) -> str:
        """Run a step of each size as a graph and without, over the first blocks of the pool, which nobody may use yet.
        Return how they differ, "" where they agree."""
        try:
            for size in self._captured:
                inputs, table = self._example(max(1, size - 1))  # one token of padding
                replayed = self.run(inputs, table).clone()
                step, _ = self._captured[size]
                again = replace(step, hidden=torch.empty_like(step.hidden))
                self._run(again)
                if said := difference(replayed, again.hidden[: len(replayed)]):
                    return f"a captured step of {size} tokens is {said} of one that is not"
        finally:
            self._pool.buffer.zero_()
        return ""

    def _example(self, num_tokens: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """As `run` takes them: tokens of one slot, as many as have room, after others with random keys."""
        blocks = min(self._max_blocks, self._scratch_block, blocks_for(EXAMPLE_START + num_tokens))
        number = np.arange(EXAMPLE_START, min(EXAMPLE_START + num_tokens, blocks * BLOCK_TOKENS))
        self._pool.buffer[:, :, : blocks * BLOCK_TOKENS].normal_()
        ids = number * 7919 % int(self._language_model.config.vocab_size)
        inputs = np.stack([ids, number, number, number, number, number + 1])
        return inputs, np.tile(np.arange(blocks, dtype=np.int32), (len(number), 1))

    def _padding(self, size: int) -> NDArray[np.int64]:
        """Places of `size` padding tokens: position 0, the scratch position, one key."""
        scratch = self._pool.num_positions - 1
        return np.repeat(np.array([[0], [0], [0], [scratch], [1]]), size, axis=1)

    def _capture(self, size: int, capture: Callable[[Callable[[], None]], Graph]) -> tuple[_Step, Graph]:
        places = torch.from_numpy(self._padding(size)).to(self._device)
        hidden_size = int(self._language_model.config.hidden_size)
        hidden = torch.zeros(size, hidden_size, dtype=self._pool.buffer.dtype, device=self._device)
        table = torch.full((size, self._max_blocks), self._scratch_block, dtype=torch.int32, device=self._device)
        step = _Step(torch.zeros_like(hidden), places, table, hidden)
        return step, capture(lambda: self._run(step))

    def _run(self, step: _Step) -> None:
        positions, write_index, length = step.places[:3], step.places[3], step.places[4]
        self._pool.write_index = write_index
        self._is_padding = write_index == self._pool.num_positions - 1
        output = self._language_model(
            inputs_embeds=step.embeddings[None],
            position_ids=positions[:, None],
            past_key_values=self._pool,
            use_cache=True,
            kv_step=AttentionStep((InPlaceGroup(step.table, length.int()),)),
        )
        self._is_padding = None
        step.hidden.copy_(output.last_hidden_state[0])

    def _drop_padding(
        self, module: Any, args: Any, output: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, ...] | None:
        """Route padding tokens to the expert after the last, which the experts' forward knows as none."""
        if self._is_padding is None:
            return None
        logits, scores, indices = output
        return logits, scores, indices.masked_fill(self._is_padding[:, None], int(module.num_experts))


class _CudaCapture:
    """Records steps into CUDA graphs that share one memory pool (torch.cuda.graph)."""

    def __init__(self) -> None:
        self._memory = torch.cuda.graph_pool_handle()
        self._stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def __call__(self, step: Callable[[], None]) -> Graph:
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for _ in range(2):  # compiles kernels and fills cuBLAS workspaces, which capturing must not
                step()
        torch.cuda.current_stream().wait_stream(self._stream)
        return captured(step, pool=self._memory, stream=self._stream)
