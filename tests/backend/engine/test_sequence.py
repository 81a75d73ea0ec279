"""One request's answer, token by token: forced tokens, limits, ends, random numbers, where its text begins."""

from __future__ import annotations

import functools
import json

import llguidance.hf
import numpy as np
import pytest
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

from backend.engine.messages import Picture, Sampling, Submit
from backend.engine.sequence import GrammarCache, GrammarError, Sequence
from label_config.answer import parse_answer
from label_config.errors import UnsupportedConfig
from label_config.grammar import text_slices
from label_config.schema import Choice, ChoicesField, Field, LabelSchema, RatingField, TextField
from tests.tiny_model import tiny_model

STYLE = ChoicesField("style", "pic", (Choice("简约"), Choice("户外")), required=True)
CAPTION = TextField("caption", "pic")


def schema_of(*fields: Field) -> LabelSchema:
    return LabelSchema(fields, "pic", "photo")


@functools.cache
def grammars() -> GrammarCache:
    loaded = tiny_model()
    vocabulary = loaded.model.config.text_config.vocab_size
    return GrammarCache(llguidance.hf.from_tokenizer(loaded.tokenizer, n_vocab=vocabulary, slices=text_slices()))


def start(*fields: Field, max_new_tokens: int = 200, seed: int = 0, request_id: int = 1) -> Sequence:
    sampling = Sampling(max_new_tokens=max_new_tokens, seed=seed)
    request = Submit(schema_of(*fields), "", Picture(1, 1, b"rgb"), sampling, text_max_chars=20, request_id=request_id)
    return Sequence(request, grammars(), 30, 16)


def allowed(sequence: Sequence) -> list[int]:
    mask = allocate_token_bitmask(1, grammars().tokenizer.vocab_size)
    fill_next_token_bitmask(sequence.matcher, mask)
    return np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")).tolist()


def text(sequence: Sequence) -> str:
    return b"".join(sequence.result().pieces).decode()


def finish(sequence: Sequence, choose: int = 0) -> Sequence:
    """Answer with the token number `choose` of those allowed, until the end."""
    while not sequence.finished:
        tokens = allowed(sequence)
        sequence.append(tokens[choose % len(tokens)], 0.5)
    return sequence


def test_what_the_grammar_forces_at_the_start_is_pending_and_counted() -> None:
    sequence = start(STYLE)
    opening = b"".join(grammars().piece(token) for token in sequence.pending)
    assert b'{"style":"'.startswith(opening)
    assert len(opening) > 1
    assert sequence.num_tokens == len(sequence.pending)
    assert not sequence.finished


def test_what_is_forced_after_a_choice_is_pending_with_it() -> None:
    sequence = start(STYLE, CAPTION)
    told: list[int] = [*sequence.pending]
    while not sequence.in_text:
        before, token = sequence.num_tokens, allowed(sequence)[0]
        sequence.append(token, 0.25)
        assert sequence.pending[0] == token
        assert sequence.num_tokens - before == len(sequence.pending)
        told += sequence.pending
    assert len(sequence.pending) > 1
    finish(sequence)
    pieces = sequence.result().pieces
    assert [grammars().piece(token) for token in told] == list(pieces[: len(told)])


def test_chosen_tokens_keep_their_probability_and_forced_ones_have_one() -> None:
    sequence = start(STYLE)
    num_forced = sequence.num_tokens
    sequence.append(allowed(sequence)[0], 0.25)
    after = len(sequence.pending) - 1
    finish(sequence)
    probabilities = sequence.result().probabilities
    assert probabilities[: num_forced + 1 + after] == (*[1.0] * num_forced, 0.25, *[1.0] * after)


def test_what_is_read_again_is_all_of_the_answer_so_far_and_changes_nothing_else() -> None:
    sequence, other = start(STYLE, CAPTION), start(STYLE, CAPTION)
    told = [*sequence.pending]
    for _ in range(3):
        for one in (sequence, other):
            one.append(allowed(one)[0], 0.5)
        told += sequence.pending
    sequence.read_again()
    assert sequence.pending == told
    assert sequence.num_tokens == len(told)
    assert finish(sequence).result() == finish(other).result()


@pytest.mark.parametrize("choose", [0, 1, -1])
def test_an_answer_ends_with_its_grammar(choose: int) -> None:
    fields = (STYLE, RatingField("stars", "pic", required=True))
    sequence = finish(start(*fields), choose)
    result = sequence.result()
    assert sequence.finish_reason == result.finish_reason == "stop"
    assert list(json.loads(text(sequence))) == ["style", "stars"]
    parse_answer(schema_of(*fields), result.pieces, result.probabilities, truncated=False)
    assert (result.request_id, result.num_prompt_tokens, result.num_image_tokens) == (1, 30, 16)


def test_a_grammar_with_one_answer_is_finished_at_once() -> None:
    only = ChoicesField("style", "pic", (Choice("简约"),), required=True)
    sequence = start(only)
    assert sequence.finish_reason == "stop"
    assert text(sequence) == '{"style":"简约"}'
    assert set(sequence.result().probabilities) == {1.0}


def test_the_token_limit_cuts_inside_forced_tokens_and_nowhere_else() -> None:
    whole = finish(start(STYLE)).num_tokens
    for limit in range(1, whole + 2):
        sequence = finish(start(STYLE, max_new_tokens=limit))
        assert sequence.num_tokens == min(limit, whole)
        assert sequence.finish_reason == ("length" if limit < whole else "stop")
        assert len(sequence.pending) <= limit


def test_an_end_of_text_token_ends_the_answer_and_is_no_part_of_it() -> None:
    sequence = start(STYLE)
    before = sequence.num_tokens
    sequence.append(grammars().tokenizer.eos_token, 0.5)
    assert sequence.finish_reason == "stop"
    assert (sequence.num_tokens, sequence.pending) == (before, [])


def test_a_token_the_grammar_forbids_is_an_error() -> None:
    sequence = start(STYLE)
    end = grammars().tokenizer.eos_token
    [forbidden, *_] = sorted(set(range(200)) - {*allowed(sequence), end})
    with pytest.raises(GrammarError, match=f"token {forbidden} is not allowed here"):
        sequence.append(forbidden, 0.5)


def test_a_failed_sequence_is_finished_and_says_why() -> None:
    sequence = start(STYLE)
    sequence.fail("no numbers")
    assert sequence.finished
    assert sequence.failure == "no numbers"


def test_random_numbers_repeat_and_differ_from_token_to_token_and_seed_to_seed() -> None:
    def numbers(seed: int) -> list[float]:
        sequence, drawn = start(CAPTION, seed=seed), list[float]()
        while not sequence.finished:
            assert sequence.uniform() == sequence.uniform()
            drawn.append(sequence.uniform())
            tokens = [token for token in allowed(sequence) if grammars().piece(token).isalpha()]
            sequence.append((tokens or allowed(sequence))[0], 0.5)
        return drawn

    first = numbers(1)
    assert first == numbers(1)
    assert len(set(first)) == len(first) > 3
    assert not set(first) & set(numbers(2))
    assert all(0 <= number < 1 for number in first)


HOSTILE = 'a","caption":'
LOOKALIKES = ChoicesField(
    "kind",
    "pic",
    (Choice(HOSTILE), Choice('"caption":'), Choice("x\\"), Choice("caption")),
    multiple=True,
    required=True,
)
TEXT_BEGINS = [
    pytest.param((CAPTION,), '{"caption":', id="text alone"),
    pytest.param((CAPTION, STYLE), ',"caption":', id="after labels, though first in the config"),
    pytest.param((CAPTION, TextField("more", "pic"), STYLE), ',"caption":', id="the first of two texts"),
    pytest.param((LOOKALIKES, CAPTION), ',"caption":', id="labels that look like its key"),
    pytest.param((STYLE, TextField('"说明\\', "pic")), ',"\\"说明\\\\":', id="a key that needs escapes"),
]


@pytest.mark.parametrize(("fields", "key"), TEXT_BEGINS)
@pytest.mark.parametrize("choose", [0, 1, -1, 7])
def test_sampling_begins_exactly_at_the_first_text(fields: tuple[Field, ...], key: str, choose: int) -> None:
    sequence, answer = start(*fields), b""
    while not sequence.finished:
        answer += b"".join(grammars().piece(token) for token in sequence.pending)
        has_begun = _outside_strings(answer, key.encode())
        assert sequence.in_text == has_begun
        tokens = allowed(sequence)
        sequence.append(tokens[choose % len(tokens)], 0.5)


def _outside_strings(answer: bytes, key: bytes) -> bool:
    """Whether `key` stands in `answer` where a JSON key stands: behind an even number of unescaped quotes."""
    found = answer.find(key)
    while found >= 0:
        before = answer[:found].replace(b"\\\\", b"").replace(b'\\"', b"")
        if before.count(b'"') % 2 == 0:
            return True
        found = answer.find(key, found + 1)
    return False


def test_labels_alone_are_never_sampled() -> None:
    sequence = finish(start(STYLE, RatingField("stars", "pic", required=True)))
    assert not sequence.in_text


def test_grammars_are_kept_up_to_a_limit_and_each_request_has_its_own() -> None:
    compiled: list[str] = []

    def counting(schema: LabelSchema, *, text_max_chars: int) -> str:
        compiled.append(schema.fields[0].name)
        return 'start: "a" | "b"\n'

    cache = GrammarCache(grammars().tokenizer, counting, max_cached=2)
    fields = [RatingField(name, "pic") for name in ("one", "two", "three")]
    first = cache.matcher(schema_of(fields[0]), 20)
    again = cache.matcher(schema_of(fields[0]), 20)
    assert first is not again
    assert compiled == ["one"]
    cache.matcher(schema_of(fields[1]), 20)
    cache.matcher(schema_of(fields[0]), 20)  # used again, so "two" goes first
    cache.matcher(schema_of(fields[2]), 20)
    cache.matcher(schema_of(fields[0]), 20)
    assert compiled == ["one", "two", "three"]
    cache.matcher(schema_of(fields[1]), 20)
    assert compiled[-1] == "two"
    cache.matcher(schema_of(fields[1]), 21)
    assert compiled[-2:] == ["two", "two"]


@pytest.mark.parametrize("refused", ["this is no grammar", UnsupportedConfig("too long")], ids=str)
def test_a_refused_grammar_is_remembered_and_says_why(refused: str | UnsupportedConfig) -> None:
    written: list[str] = []

    def broken(schema: LabelSchema, *, text_max_chars: int) -> str:
        written.append(schema.fingerprint)
        if isinstance(refused, UnsupportedConfig):
            raise refused
        return refused

    cache = GrammarCache(grammars().tokenizer, broken)
    for _ in range(2):
        with pytest.raises(GrammarError, match="cannot be made into a grammar"):
            cache.matcher(schema_of(STYLE), 20)
    assert len(written) == 1


def test_one_request_does_not_move_the_grammar_of_another() -> None:
    one, other = start(STYLE, request_id=1), start(STYLE, request_id=2)
    tokens = allowed(other)
    finish(one)
    assert allowed(other) == tokens
    assert text(finish(other)) == text(one)
