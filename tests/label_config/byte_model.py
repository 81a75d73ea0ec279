"""A byte tokenizer and a model that prefers tokens at random: what the grammar allows is all that shapes its text."""

from __future__ import annotations

import random
from dataclasses import dataclass

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

# Tokens that cross the borders of fields and characters, as those of a trained tokenizer do.
_MERGED = [
    b'"}',
    b'","',
    b'":"',
    b'["',
    b'"]',
    b'"],"',
    b"null",
    b'{"',
    b"\xe4\xbd\xa0",
    b"\xa0\xe5\xa5",
    b'\\"',
    b"10",
]


class _Bytes:
    eos_token_id = 256
    bos_token_id = None
    tokens = [bytes([value]) for value in range(256)] + [b"<eos>"] + _MERGED
    special_token_ids = [256]  # noqa: RUF012

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


TOKENS = _Bytes.tokens
TOKENIZER = LLTokenizer(TokenizerWrapper(_Bytes()), n_vocab=len(TOKENS))


def matcher(grammar: str) -> LLMatcher:
    made = LLMatcher(TOKENIZER, grammar)
    assert not made.is_error(), made.get_error()[:500]
    return made


def admits(grammar: str, text: str) -> bool:
    """Whether `text` is a whole answer of `grammar`, byte by byte."""
    made = matcher(grammar)
    data = list(text.encode())
    return made.try_consume_tokens(data) == len(data) and bool(made.is_accepting())


@dataclass(frozen=True, slots=True)
class Generated:
    pieces: tuple[bytes, ...]
    probabilities: tuple[float, ...]

    @property
    def text(self) -> str:
        return b"".join(self.pieces).decode()


def generate(grammar: str, seed: int, max_tokens: int = 5_000) -> Generated:
    """Let a model without preferences answer; each probability is one over the number of allowed tokens."""
    chance = random.Random(seed)
    made = matcher(grammar)
    pieces: list[bytes] = []
    probabilities: list[float] = []
    for _ in range(max_tokens):
        mask = int.from_bytes(made.compute_bitmask(), "little")
        allowed = [token for token in range(len(TOKENS)) if mask >> token & 1]
        assert allowed, made.get_error()[:500]
        token = chance.choice(allowed)
        if token == _Bytes.eos_token_id:
            return Generated(tuple(pieces), tuple(probabilities))
        assert made.consume_token(token), made.get_error()[:500]
        pieces.append(TOKENS[token])
        probabilities.append(1 / len(allowed))
    raise AssertionError("the grammar did not end the answer")
