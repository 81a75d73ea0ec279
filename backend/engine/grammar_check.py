"""Will the engine be able to follow a schema's grammar: asked before the first task, not while one is answered.

llguidance compiles nearly every grammar, and gives up while it runs: a step that meets too many labels at once runs out
of its *fuel*. So answers are walked through the grammar, those that meet the most, with half the engine's fuel and a
vocabulary made of the labels themselves: no tokenizer reaches further into a list of labels in one step than one that
has each as a token. (Measured against Qwen3's 151,669 tokens, the same fuel to within a factor of two.)
Uses no model's tokenizer and no torch.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import TypeVar

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from label_config.answer import FieldValue, render_answer
from label_config.errors import UnsupportedConfig
from label_config.grammar import answer_grammar, text_slices
from label_config.numbers import Numbers
from label_config.schema import (
    ChoicesField,
    Field,
    LabelSchema,
    NumberField,
    RatingField,
    TaxonomyField,
    TaxonomyNode,
    TextField,
)

MAX_MESSAGE_CHARS = 300
# One step may cost this much. 14,000 a millisecond on an idle core: 0.14 s when checked, 0.3 s at most when run.
_CHECK_FUEL = 2_000_000
_RUN_FUEL = 2 * _CHECK_FUEL
_SOME = 6
_SOME_LEVELS = 24
_LISTED_ROUNDING = 100

_PIECES = re.compile(rb'"\],\["|","|(?:[^"\\]|\\.)+|.', re.DOTALL)

_Item = TypeVar("_Item")


def _limits(fuel: int) -> LLParserLimits:
    return LLParserLimits(initial_lexer_fuel=5 * _RUN_FUEL, step_lexer_fuel=fuel, verbose_errors=False)


def grammar_limits() -> LLParserLimits:
    """What a matcher may use while an answer is generated: twice what `grammar_problem` allows."""
    return _limits(_RUN_FUEL)


def grammar_problem(schema: LabelSchema, text_max_chars: int, limit_s: float = math.inf) -> str:
    """Say why no answer to `schema` can be generated, and how many labels could; "" if all is well.

    Takes milliseconds for usual configs, and at most some seconds (20,000 labels of which several may be chosen).
    Raises TimeoutError where that is not known after `limit_s` and what one step may cost.
    """
    until = time.monotonic() + limit_s
    try:
        problem = _run(schema, text_max_chars, until)
    except UnsupportedConfig as error:
        return str(error)
    if not problem:
        return ""
    lists = [field for field in schema.fields if _num_labels(field) > 1]
    for field in lists:
        if len(lists) == len(schema.fields) == 1 or _run(replace(schema, fields=(field,)), text_max_chars, until):
            return _too_many(schema, field, text_max_chars, until)
    return problem


def _too_many(schema: LabelSchema, field: Field, text_max_chars: int, until: float) -> str:
    """Halve the field's labels until they fit."""
    count = num_labels = _num_labels(field)
    while count > 1:
        count //= 2
        if not _run(replace(schema, fields=(_shortened(field, count),)), text_max_chars, until):
            break
    fits = count // _LISTED_ROUNDING * _LISTED_ROUNDING or count
    return (
        f'"{field.name}" has {num_labels:,} labels of which several may be chosen, more than the engine can keep apart '
        f"in one step; {fits:,} such labels fit. Shorten the list, divide it among several controls, or let only one "
        'be chosen (choice="single", maxUsages="1")'
    )


def _run(schema: LabelSchema, text_max_chars: int, until: float) -> str:
    """Compile the grammar and walk the hardest answers through it; what went wrong, or "".

    Nothing interrupts a step, which its fuel bounds. Raises TimeoutError before the first one after `until`.
    """
    grammar = answer_grammar(schema, text_max_chars=text_max_chars)
    tokenizer = _label_tokenizer(schema)
    compiled = LLMatcher(tokenizer, grammar, log_level=0, limits=_limits(_CHECK_FUEL))
    if compiled.is_error():
        return _short(compiled.get_error())
    for answer in dict.fromkeys(_hard_answers(schema)):
        matcher = compiled.deep_copy()
        for token in tokenizer.tokenize_str(answer):
            if time.monotonic() > until:
                raise TimeoutError
            matcher.compute_ff_tokens()
            matcher.compute_bitmask()
            if matcher.is_error() or not matcher.consume_token(token):
                return _short(matcher.get_error())
        if not matcher.is_accepting():
            return _short(matcher.get_error()) or "an answer of the form it asks for is not admitted"
    return ""


def _short(message: str) -> str:
    return " ".join(message.split())[:MAX_MESSAGE_CHARS]


# -- the hardest answers ----------------------------------------------------------------------------------------------


def _hard_answers(schema: LabelSchema) -> Iterator[str]:
    """Answers that meet the most labels at once: the first, the last, and some across each list."""
    for pick in ("first", "last", "some"):
        yield render_answer(schema, {field.name: _value(field, pick) for field in schema.fields})


def _value(field: Field, pick: str) -> FieldValue:
    match field:
        case TextField():
            return "x"
        case RatingField():
            return 1
        case NumberField():
            return Numbers.of(field.minimum, field.maximum, field.step).smallest if field.required else None
        case ChoicesField():
            return tuple(_picked([choice.value for choice in field.choices], pick, _SOME if field.multiple else 1))
        case TaxonomyField():
            paths = [tuple(node.value for node in path) for path in field.paths()]
            limit = min(field.max_paths, _SOME, max(1, _SOME_LEVELS // max(map(len, paths))))
            return tuple(_picked(paths, pick, limit))


def _picked(items: Sequence[_Item], pick: str, limit: int) -> Sequence[_Item]:
    if pick == "some":
        return items[:: max(1, -(-len(items) // limit))]
    return [items[0 if pick == "first" else -1]]


# -- labels ------------------------------------------------------------------------------------------------------------


def _label_tokenizer(schema: LabelSchema) -> LLTokenizer:
    """Bytes, and every label and name as one token: the trie that a step goes through holds every beginning of one.

    It reads a text once, and looks up what stands between quotes.
    """
    single = [bytes([value]) for value in range(256)]
    texts = chain(_labels(schema), (field.name for field in schema.fields))
    labels = {json.dumps(text, ensure_ascii=False)[1:-1].encode() for text in texts} - set(single)
    words = [*single, *sorted(labels), b'","', b'"],["', b"<end>"]
    numbers = {word: number for number, word in enumerate(words)}

    class Tokens:
        eos_token_id = len(words) - 1
        bos_token_id = None
        tokens = words
        special_token_ids = (len(words) - 1,)

        def __call__(self, text: str | bytes) -> list[int]:
            taken: list[int] = []
            for piece in _PIECES.findall(text.encode() if isinstance(text, str) else text):
                taken += [numbers[piece]] if piece in numbers else piece  # a byte is the token of its number
            return taken

    return LLTokenizer(TokenizerWrapper(Tokens()), n_vocab=len(words), slices=text_slices())


def _labels(schema: LabelSchema) -> Iterator[str]:
    for field in schema.fields:
        if isinstance(field, ChoicesField):
            yield from (choice.value for choice in field.choices)
        elif isinstance(field, TaxonomyField):
            yield from (node.value for node in field.nodes())


def _num_labels(field: Field) -> int:
    if isinstance(field, ChoicesField):
        return len(field.choices)
    return sum(1 for _ in field.paths()) if isinstance(field, TaxonomyField) else 0


def _shortened(field: Field, count: int) -> Field:
    """`field` with its first `count` labels (of a tree, with about as many leaves)."""
    if isinstance(field, ChoicesField):
        return replace(field, choices=field.choices[:count])
    assert isinstance(field, TaxonomyField)
    return replace(field, roots=_first_leaves(field.roots, count)[0])


def _first_leaves(nodes: Sequence[TaxonomyNode], left: int) -> tuple[tuple[TaxonomyNode, ...], int]:
    """The beginning of a tree that has `left` leaves, and how many it lacks."""
    kept = []
    for node in nodes:
        if left <= 0:
            break
        below, left = _first_leaves(node.children, left) if node.children else ((), left - 1)
        kept.append(replace(node, children=below))
    return tuple(kept), left
