"""The state of one request while its answer is generated: grammar, forced tokens, pieces, probabilities.

Pure Python over llguidance: no tensor, no model. A sequence holds the tokens that the model has not read yet
(`pending`): the one chosen last and those that the grammar forces after it. The runner feeds them in one step, fills
the mask of the token after them, and tells which was chosen. Labels take the most probable token, text fields are
sampled; `in_text` says which. Raises GrammarError when the schema's grammar cannot be compiled.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
from cachetools import LRUCache
from llguidance import LLMatcher, LLTokenizer

from backend.engine.grammar_check import grammar_limits
from backend.engine.messages import Finished, FinishReason, Submit
from label_config.errors import UnsupportedConfig
from label_config.grammar import answer_grammar
from label_config.schema import LabelSchema, TextField

# Whole-answer grammars are cached by the compiled matcher they start from; a matcher is copied per request.
MAX_CACHED_GRAMMARS = 64
_SIGNS = b'"[]{},:'


class GrammarError(ValueError):
    """The grammar of a schema was refused, by llguidance or for its length."""


class GrammarCache:
    """Compiled grammars by schema, least recently used first out."""

    def __init__(
        self,
        tokenizer: LLTokenizer,
        write_grammar: Callable[..., str] = answer_grammar,
        max_cached: int = MAX_CACHED_GRAMMARS,
    ) -> None:
        self.tokenizer = tokenizer
        self._write_grammar = write_grammar
        self._pieces: dict[int, bytes] = {}
        self._eos_tokens = frozenset(tokenizer.eos_tokens)
        # why a grammar is refused is kept, too: writing and compiling are slow
        self._matchers: LRUCache[tuple[str, int], Any] = LRUCache(max_cached)

    def is_end(self, token: int) -> bool:
        return token in self._eos_tokens

    def piece(self, token: int) -> bytes:
        """The UTF-8 bytes of a token."""
        piece = self._pieces.get(token)
        if piece is None:
            piece = self._pieces[token] = self.tokenizer.decode_bytes([token])
        return piece

    def matcher(self, schema: LabelSchema, text_max_chars: int) -> Any:
        """Return a fresh `LLMatcher` for `schema`. Raises GrammarError."""
        key = (schema.fingerprint, text_max_chars)
        compiled = self._matchers.get(key)
        if compiled is None:
            compiled = self._matchers[key] = self._compiled(schema, text_max_chars)
        if isinstance(compiled, str):
            raise GrammarError(f"the label config cannot be made into a grammar: {compiled}")
        return compiled.deep_copy()

    def _compiled(self, schema: LabelSchema, text_max_chars: int) -> Any:
        """Its matcher, or why there is none."""
        try:
            grammar = self._write_grammar(schema, text_max_chars=text_max_chars)
        except UnsupportedConfig as error:
            return str(error)
        compiled = LLMatcher(self.tokenizer, grammar, limits=grammar_limits())
        return compiled.get_error() if compiled.is_error() else compiled


class Sequence:
    """One request being answered. `finish_reason` is None until its last token has been chosen.

    `failure` says why this one ended without an answer, while its neighbours went on.
    """

    def __init__(
        self,
        request: Submit,
        grammars: GrammarCache,
        num_prompt_tokens: int,
        num_image_tokens: int,
        image_scale: float = 1.0,
    ) -> None:
        self.request = request
        self.num_prompt_tokens = num_prompt_tokens
        self.num_image_tokens = num_image_tokens
        self.image_scale = image_scale
        self.finish_reason: FinishReason | None = None
        self.failure = ""
        self.in_text = False
        self.pending: list[int] = []
        self.matcher = grammars.matcher(request.schema, request.text_max_chars)
        self._grammars = grammars
        self._tokens: list[int] = []
        self._pieces: list[bytes] = []
        self._probabilities: list[float] = []
        self._text_marker = _text_marker(request.schema)
        self._tail = b""
        self._take_forced()

    @property
    def finished(self) -> bool:
        return self.finish_reason is not None

    @property
    def eos_token(self) -> int:
        return int(self._grammars.tokenizer.eos_token)

    @property
    def num_tokens(self) -> int:
        """Tokens of the answer so far."""
        return len(self._pieces)

    def uniform(self) -> float:
        """The random number in [0, 1) for the next token. The same whenever it is asked: a step may be run again."""
        return random.Random((self.request.sampling.seed << 20) + self.num_tokens).random()  # noqa: S311 (no secret)

    def append(self, token: int, probability: float) -> None:
        """Take `token` as chosen, and what the grammar forces after it. They are `pending` then.

        `probability` is renormalised over the tokens the grammar allowed. Raises GrammarError for a token it did not
        allow.
        """
        self.pending = []
        self._consume(token, probability)
        if not self.finished:
            self._take_forced()

    def read_again(self) -> None:
        """The model has forgotten what it read: all tokens of the answer so far are `pending` again."""
        self.pending = self._tokens.copy()

    def fail(self, reason: str) -> None:
        self.failure = reason
        self.finish_reason = "length"

    def _take_forced(self) -> None:
        while forced := self.matcher.compute_ff_tokens() or self._forced_text():
            for token in forced:
                self._consume(token, 1.0)
                if self.finished:
                    return

    def _forced_text(self) -> list[int]:
        """The token of JSON's own signs where they are forced, and only their cut is left: `":"`, or `":` and `"`.

        None where the tokenizer itself cuts them, or where a token may stand here that reaches beyond them.
        """
        text = self.matcher.compute_ff_bytes()
        tokens: list[int] = self._grammars.tokenizer.tokenize_bytes(text) if text and not text.strip(_SIGNS) else []
        if len(tokens) != 1:
            return []
        mask = np.frombuffer(self.matcher.compute_bitmask(), dtype=np.uint8)
        allowed = np.flatnonzero(np.unpackbits(mask, bitorder="little")).tolist()
        return tokens if all(text.startswith(self._grammars.piece(token)) for token in allowed) else []

    def _consume(self, token: int, probability: float) -> None:
        if self._grammars.is_end(token):
            self.finish_reason = "stop"
            return
        if not self.matcher.consume_token(token):
            raise GrammarError(f"token {token} is not allowed here: {self.matcher.get_error()}")
        piece = self._grammars.piece(token)
        self.pending.append(token)
        self._tokens.append(token)
        self._pieces.append(piece)
        self._probabilities.append(probability)
        self._watch_for_text(piece)
        if self.matcher.is_stopped() and self.matcher.is_accepting():
            self.finish_reason = "stop"
        elif len(self._pieces) >= self.request.sampling.max_new_tokens:
            self.finish_reason = "length"

    def result(self) -> Finished:
        assert self.finish_reason is not None
        return Finished(
            request_id=self.request.request_id,
            pieces=tuple(self._pieces),
            probabilities=tuple(self._probabilities),
            finish_reason=self.finish_reason,
            num_prompt_tokens=self.num_prompt_tokens,
            num_image_tokens=self.num_image_tokens,
            image_scale=self.image_scale,
        )

    def _watch_for_text(self, piece: bytes) -> None:
        if self.in_text or self._text_marker is None:
            return
        self._tail += piece
        self.in_text = self._text_marker in self._tail
        self._tail = self._tail[-len(self._text_marker) :]


def _text_marker(schema: LabelSchema) -> bytes | None:
    """The bytes after which the text fields of an answer begin, or None if it has none.

    Labels come first, so the key of the first text field opens the text part. Its quotes are never escaped, those
    inside a label always are, so no label can look like it.
    """
    order = schema.answer_order
    first = next((i for i, field in enumerate(order) if isinstance(field, TextField)), None)
    if first is None:
        return None
    key = json.dumps(order[first].name, ensure_ascii=False)
    return (("{" if first == 0 else ",") + key + ":").encode()
