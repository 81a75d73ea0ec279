"""All tensors of generation: rows in, their next tokens out. Knows no policy: which rows run together is the caller's.

One step runs the tokens of all its rows, packed in one row [1, N], through the stock language model of transformers:
each token has its own position, and its keys and values go to its slot's blocks of the `KvPool`. A prefill step feeds
image and closing tokens behind the instruction, whose keys and values are computed once and read by all; a decode step
feeds the tokens a sequence has pending: the one chosen last and those its grammar forces. The mask of the token after
them is computed in threads while the device runs. A step changes a sequence only when it has succeeded, so a failed one
may be run again in smaller parts. Raises torch.OutOfMemoryError, and whatever the device raises.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Sequence as Rows
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from llguidance import LLExecutor
from llguidance.numpy import fill_next_token_bitmask_par
from numpy.typing import NDArray

from backend.engine import attention
from backend.engine.attention import plan_attention
from backend.engine.cache import KvPool
from backend.engine.embedding import embed
from backend.engine.graphs import DecodeGraphs, Graph, graph_sizes
from backend.engine.image_sizes import Grid, scale
from backend.engine.kv_blocks import BLOCK_TOKENS, Instruction, blocks_for
from backend.engine.messages import Submit
from backend.engine.packing import Packed, Row, graph_inputs, pack_answers, pack_both, pack_instruction
from backend.engine.pictures import to_patches
from backend.engine.prompts import Prompt, PromptEncoder
from backend.engine.scheduler import Slot
from backend.engine.sequence import GrammarCache, GrammarError, Sequence
from backend.engine.token_choice import GREEDY, MIN_TEMPERATURE, Draw, choose_tokens
from backend.engine.vision import VisionTower, VisualTokens
from label_config.grammar import text_slices
from model_loader.loader import LoadedModel
from model_loader.memory import VISION_PASS_TOKENS


class Runner:
    """One instance per loaded model. One thread owns the device; only `to_patches` may be called from others.

    The pool has `kv_tokens` positions, rounded down to whole blocks, that the scheduler gives to slots.
    """

    def __init__(
        self, loaded: LoadedModel, *, image_tokens: int, context_tokens: int, kv_tokens: int, max_slots: int
    ) -> None:
        import llguidance.hf

        self._loaded = loaded
        self._model = loaded.model
        self._device = loaded.device
        self._language_model = loaded.model.model.language_model
        text_config = loaded.model.config.text_config
        tokenizer = llguidance.hf.from_tokenizer(loaded.tokenizer, n_vocab=text_config.vocab_size, slices=text_slices())
        self._grammars = GrammarCache(tokenizer)
        self._heads_per_key = int(text_config.num_attention_heads // text_config.num_key_value_heads)
        self.prompts = PromptEncoder(
            loaded.tokenizer, loaded.image_processor, image_tokens=image_tokens, context_tokens=context_tokens
        )
        num_positions = kv_tokens // BLOCK_TOKENS * BLOCK_TOKENS
        self._max_blocks = blocks_for(min(context_tokens, num_positions))
        # the last position is where padding tokens of a CUDA graph write
        self._pool = KvPool(text_config, num_positions + 1, device=loaded.device, dtype=loaded.dtype)
        self._graphs: DecodeGraphs | None = None
        self._vision = VisionTower(loaded.model, max_tokens=max(VISION_PASS_TOKENS, self.prompts.max_image_tokens))
        self._language_model.config._attn_implementation = attention.TEXT_ATTENTION
        words = (text_config.vocab_size + 31) // 32
        self._masks = torch.zeros(max_slots, words, dtype=torch.int32, pin_memory=loaded.device.startswith("cuda"))
        self._mask_executor = LLExecutor()
        self._mask_thread = ThreadPoolExecutor(1, thread_name_prefix="masks")

    @property
    def kv_memory(self) -> torch.Tensor:
        """All of the KV cache."""
        return self._pool.buffer

    def start(self, request: Submit, prompt: Prompt, slot: Slot) -> Row:
        """Compile the grammar and take what it forces at once. Raises GrammarError."""
        picture = request.picture
        image_scale = scale(picture.width_px, picture.height_px, prompt.grid, self.prompts.token_px)
        sequence = Sequence(request, self._grammars, prompt.num_tokens, prompt.num_image_tokens, image_scale)
        return Row(sequence, prompt, slot)

    def to_patches(self, request: Submit, prompt: Prompt) -> torch.Tensor:
        """The vision tower's input for a request, on the CPU. Thread-safe. Raises ValueError."""
        return to_patches(request.picture, prompt.grid, self._loaded.image_processor, self._loaded.dtype)

    @torch.inference_mode()
    def encode(self, patches: Rows[torch.Tensor], grids: Rows[Grid]) -> list[VisualTokens]:
        """Run the vision tower ahead of the prefill. On a CPU one other thread may do so beside the device's."""
        return self._vision.encode(patches, grids)

    @torch.inference_mode()
    def prefill(
        self, rows: Rows[Row], pictures: Rows[torch.Tensor] | Rows[VisualTokens], decoding: Rows[Row] = ()
    ) -> None:
        """Read the prompts of `rows`, with their pictures, and choose the first tokens of their answers.

        `pictures`: what `to_patches` gave for each row, or what `encode` made of it. `decoding`: rows that get their
        next token in the same step.
        """
        visual = [picture for picture in pictures if isinstance(picture, VisualTokens)]
        patches = [picture for picture in pictures if isinstance(picture, torch.Tensor)]
        if patches:
            visual = self._vision.encode(patches, [row.prompt.grid for row in rows])
        for row in rows:
            self._write_instruction(row.slot.instruction)
        decoding = _shortest_first(decoding)
        masks = self._start_masks([*decoding, *rows])
        packed = pack_both(decoding, rows)
        self._advance([*decoding, *rows], packed, self._forward(packed, visual), masks)

    @torch.inference_mode()
    def decode(self, rows: Rows[Row]) -> None:
        """Read the pending tokens of `rows` and choose the next one of each."""
        rows = _shortest_first(rows)
        masks = self._start_masks(rows)
        packed = pack_answers(rows)
        if self._graphs is None or packed.num_tokens > self._graphs.max_tokens:
            hidden = self._forward(packed)
        else:
            hidden = self._last_of_each(packed, self._graphs.run(graph_inputs(packed), packed.token_table()))
        self._advance(rows, packed, hidden, masks)

    @torch.inference_mode()
    def capture_graphs(
        self, capture: Callable[[Callable[[], None]], Graph] | None = None, sizes: tuple[int, ...] = ()
    ) -> None:
        """Decode through graphs from now on. Raises whatever capturing raises."""
        sizes = sizes or graph_sizes(len(self._masks))
        self._graphs = DecodeGraphs(self._language_model, self._pool, self._max_blocks, sizes, capture)

    @torch.inference_mode()
    def check_graphs(self) -> str:
        """Before the first request: if graphs compute something else, return what, and decode without them."""
        said = self._graphs.wrong() if self._graphs is not None else ""
        if said:
            self._drop_graphs()
        return said

    def close(self) -> None:
        """Free the pool, the graphs and the threads."""
        self._drop_graphs()
        self._mask_thread.shutdown()
        self._pool.buffer = self._pool.buffer.new_zeros(0)

    def _drop_graphs(self) -> None:
        if self._graphs is not None:
            self._graphs.close()
            self._graphs = None

    def _write_instruction(self, instruction: Instruction) -> None:
        """Have the keys of an instruction in its blocks."""
        if instruction.blocks and not instruction.is_written:
            self._forward(pack_instruction(instruction))
            instruction.is_written = True

    def _forward(self, packed: Packed, visual: Rows[VisualTokens] = ()) -> torch.Tensor:
        """Run the language model over `packed`. Returns the last hidden state of each slot, [R, H]."""
        self._pool.write_index = self._to_device(packed.write_index())
        embeddings = embed(self._language_model, packed.ids, self._device)
        inputs: dict[str, Any] = {}
        if visual:
            is_image = self._to_device(packed.ids) == self._model.config.image_token_id
            embeddings[is_image] = torch.cat([v.embeddings for v in visual]).to(embeddings.dtype)
            inputs["visual_pos_masks"] = is_image[None]
            inputs["deepstack_visual_embeds"] = [
                torch.cat(layer) for layer in zip(*(v.deepstack for v in visual), strict=True)
            ]
        output = self._language_model(
            inputs_embeds=embeddings[None],
            position_ids=self._to_device(packed.positions)[:, None],
            past_key_values=self._pool,
            use_cache=True,
            kv_step=plan_attention(
                packed.spans,
                packed.table,
                heads_per_key=self._heads_per_key,
                device=self._device,
                dtype=self._loaded.dtype,
                in_place=self._graphs is not None,
            ),
            **inputs,
        )
        return self._last_of_each(packed, output.last_hidden_state[0])

    def _last_of_each(self, packed: Packed, hidden: torch.Tensor) -> torch.Tensor:
        """hidden: [N, H] of the packed tokens. Returns that of the last token of each slot, [R, H]."""
        return hidden.index_select(0, self._to_device(np.cumsum(packed.lengths()) - 1))

    def _advance(self, rows: Rows[Row], packed: Packed, hidden: torch.Tensor, masks: Future[None]) -> None:
        """Choose the next token of each row and hand it over. Raises ArithmeticError for several broken rows.

        A row whose numbers are broken fails alone, and where several are, smaller steps tell which.
        """
        logits = self._model.lm_head(hidden)
        masks.result()
        mask = self._masks[: len(rows)].to(self._device, non_blocking=True)
        tokens, probabilities = choose_tokens(logits, mask, [draw_of(row.sequence) for row in rows])
        if sum(not math.isfinite(probability) for probability in probabilities) > 1:
            raise ArithmeticError("the model's probabilities are not numbers")
        for row, span, token, probability in zip(rows, packed.spans, tokens, probabilities, strict=True):
            row.num_cached = span.start + span.length
            try:
                if not math.isfinite(probability):
                    raise GrammarError("the model's probabilities are not numbers")
                row.sequence.append(token, probability)
            except GrammarError as error:
                row.sequence.fail(str(error))

    def _start_masks(self, rows: Rows[Row]) -> Future[None]:
        """Compute the masks of the tokens after what is pending, beside the device's work."""
        matchers = [(row.sequence.matcher, i) for i, row in enumerate(rows)]
        return self._mask_thread.submit(fill_next_token_bitmask_par, self._mask_executor, matchers, self._masks.numpy())

    def _to_device(self, array: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(array).to(self._device, non_blocking=True)


def _shortest_first(rows: Rows[Row]) -> list[Row]:
    """In the order in which attention pads them least (`plan_attention`)."""
    return sorted(rows, key=lambda row: len(row.sequence.pending))


def draw_of(sequence: Sequence) -> Draw:
    """How the next token of `sequence` is chosen: texts are sampled, labels take the most probable one."""
    sampling = sequence.request.sampling
    if not sequence.in_text or sampling.temperature < MIN_TEMPERATURE:
        return GREEDY
    return Draw(sampling.temperature, sampling.top_p, sequence.uniform())
