"""LabelSchema -> a Lark grammar for llguidance that admits exactly the answers of `render_answer`.

One line of compact JSON, keys in `schema.answer_order`. What the schema leaves open is settled here:
- a text is 1 to max_chars visible characters, does not begin with a space, and escapes only `"` and `\\`;
- a label or a short text that is not required may be null; an empty list is never written;
- several labels or paths come in the order of the config, none twice.
Every field is a regular language, written as one terminal: a taxonomy as its trie, a set of labels by halving the
list (size n log n, where a choice of "any later label" would be n squared). Labels are string literals, never
patterns. Knows no tokenizer; does not import llguidance. Raises UnsupportedConfig if the grammar would be too large.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Sequence

from label_config.errors import UnsupportedConfig
from label_config.numbers import Numbers
from label_config.schema import (
    ChoicesField,
    Field,
    LabelSchema,
    NumberField,
    RatingField,
    ShortTextField,
    TaxonomyField,
    TaxonomyNode,
    TextField,
)
from label_config.visible import HIDDEN_RANGES

# 10,000 paths of three levels take 1.0 M characters and compile in 0.3 s.
MAX_GRAMMAR_CHARS = 2_500_000
MAX_TEXT_CHARS = 8_000

_LinesAndName = Generator[str, None, str]
_STRING = r'STRING: /"([^"\\]|\\.)*"/'
_PATH = 'PATH: "[" STRING ("," STRING)* "]"'


def answer_grammar(schema: LabelSchema, *, text_max_chars: int) -> str:
    """Return the grammar as Lark text, for `llguidance.LLMatcher(tokenizer, grammar)`.

    `text_max_chars` limits every description, in characters, besides its own `max_chars`. Raises UnsupportedConfig.
    """
    if not 1 <= text_max_chars <= MAX_TEXT_CHARS:
        raise UnsupportedConfig(f"A text limit of {text_max_chars} characters is not between 1 and {MAX_TEXT_CHARS:,}.")
    parts: list[str] = []
    lines: list[str] = []
    for number, field in enumerate(schema.answer_order):
        parts.append(_literal(("," if parts else "{") + _json(field.name) + ":"))
        terminal = f"F{number}"
        lines += _limited(_field_lines(terminal, field, text_max_chars))
        parts.append(terminal)
    return "\n".join(_limited([f'start: {" ".join(parts)} "}}"', *lines, _STRING, _PATH, ""]))


def _limited(texts: Iterable[str]) -> list[str]:
    """`texts`, of which no more are made than a grammar may hold: a tree's paths are many times as long as its label
    config. Raises UnsupportedConfig."""
    made: list[str] = []
    num_chars = 0
    for text in texts:
        num_chars += len(text) + 1
        if num_chars > MAX_GRAMMAR_CHARS:
            raise UnsupportedConfig(
                f"The labels make a grammar of too many characters; the limit is {MAX_GRAMMAR_CHARS:,}. "
                "Shorten the label lists."
            )
        made.append(text)
    return made


def _field_lines(terminal: str, field: Field, text_max_chars: int) -> Iterator[str]:
    """The definition of `terminal`, after those of its own parts (all named after it)."""
    or_null = "" if field.required else ' | "null"'
    match field:
        case ShortTextField():
            yield f"{terminal}: {_text_pattern(min(field.limit, MAX_TEXT_CHARS))}{or_null}"
        case TextField():
            yield f"{terminal}: {_text_pattern(min(field.max_chars or text_max_chars, text_max_chars))}"
        case ChoicesField() if field.multiple:
            labels = [_json(choice.value) for choice in field.choices]
            top = yield from _subset(terminal, labels)
            yield f'{terminal}: "[" {top} "]"{or_null}'
        case ChoicesField():
            yield f"{terminal}: {' | '.join(_literal(_json(choice.value)) for choice in field.choices)}{or_null}"
        case TaxonomyField() if field.max_paths > 1:
            paths = _limited(_json([node.value for node in path]) for path in field.paths())
            top = yield from _subset(terminal, paths)
            counted = f'PATH ("," PATH){{0,{field.max_paths - 1}}}'
            yield f"{terminal}C: {top} & ({counted})"
            yield f'{terminal}: "[" {terminal}C "]"{or_null}'
        case TaxonomyField():
            top = yield from _trie(terminal, field.roots, field.leaves_only)
            yield f'{terminal}: "[" {top}{or_null}'
        case RatingField():
            yield f"{terminal}: {' | '.join(_literal(str(n + 1)) for n in range(field.max_rating))}{or_null}"
        case NumberField():
            yield f"{terminal}: /{Numbers.of(field.minimum, field.maximum, field.step).pattern()}/{or_null}"


def _subset(terminal: str, items: Sequence[str], low: int = 0, high: int | None = None) -> _LinesAndName:
    """Lines for "one or more of `items`[low:high], in order, with commas"; returns the name of that terminal."""
    high = len(items) if high is None else high
    name = f"{terminal}S{low}E{high}"
    if high - low == 1:
        yield f"{name}: {_literal(items[low])}"
        return name
    middle = (low + high) // 2
    left = yield from _subset(terminal, items, low, middle)
    right = yield from _subset(terminal, items, middle, high)
    yield f'{name}: {left} ("," {right})? | {right}'
    return name


def _trie(terminal: str, nodes: Sequence[TaxonomyNode], leaves_only: bool) -> _LinesAndName:
    """Lines for "the rest of a path that goes on with one of `nodes`", closing bracket included."""
    options = []
    for number, node in enumerate(nodes):
        label = _json(node.value)
        if not node.children:
            options.append(_literal(label + "]"))
            continue
        below = yield from _trie(f"{terminal}N{number}", node.children, leaves_only)
        if leaves_only:
            options.append(f"{_literal(label + ',')} {below}")
        else:
            options.append(f'{_literal(label)} ("]" | "," {below})')
    name = f"{terminal}T"
    yield f"{name}: {' | '.join(options)}"
    return name


def text_slices() -> list[str]:
    """Patterns for `llguidance.LLTokenizer.with_slices`: what most tokens inside a text are made of.

    With them a mask inside a text costs 0.16 ms for Qwen3's 151,669 tokens; with the default slices, which allow
    hidden characters and so fit no text of this grammar, it costs 1.9 ms.
    """
    return [f"{_PLAIN}{{1,10}}", f"{_PLAIN}{{1,30}}", f"{_PLAIN}+"]


def _text_pattern(max_chars: int) -> str:
    escaped = r'\\["\\]'
    return f'/"({_PLAIN_NO_SPACE}|{escaped})({_PLAIN}|{escaped}){{0,{max_chars - 1}}}"/'


_HIDDEN = "".join(f"\\u{{{low:x}}}-\\u{{{high:x}}}" for low, high in HIDDEN_RANGES)
_PLAIN = rf'[^"\\{_HIDDEN}]'
_PLAIN_NO_SPACE = rf'[^"\\ {_HIDDEN}]'


def _json(value: str | list[str]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _literal(text: str) -> str:
    """`text` as a Lark string; the lexer of llguidance takes JSON escapes, and every character but DEL as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
