"""tokenizer.json of a checkpoint that anybody may have written: it may split texts as Qwen's does, and no other way.

A tokenizer's parts are small programs: replacements that each make a text eight times as long, patterns that never
come to an end, templates that repeat it a million times, numbers that end the process from within its library. So the
parts that Qwen's models have are known here, and any other is refused.
Raises ModelFilesInvalid.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from model_loader.chat import OF_PROMPTS
from model_loader.errors import ModelFilesInvalid
from model_loader.json_text import read_object

_KINDS = {
    "normalizer": frozenset({"Sequence", "NFC"}),
    "pre_tokenizer": frozenset({"Sequence", "Split", "ByteLevel"}),
    "post_processor": frozenset({"Sequence", "ByteLevel", "TemplateProcessing"}),
    "decoder": frozenset({"Sequence", "ByteLevel"}),
}
_MAX_PART_CHARS = 2_000
_MAX_TOKEN_ID = 2**20
MAX_ADDED_TOKENS = 1_000
_MAX_TOKEN_BYTES = 500
"""Of a token's text. llguidance, which decides what may be written, ends the process for one of 1,024."""
_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Of all Qwen models from 2 to 3-VL. Others cannot be told from those that take for ever: `x*x*x*x*y` has no group."""


def check_tokenizer(file: Path) -> Mapping[str, int]:
    """Return the ids of the special tokens that a prompt is made of.

    Raises ModelFilesInvalid unless `file` is a byte-level BPE as Qwen's models have, with all of them; OSError, too.
    """
    content = read_object(file)
    for part, kinds in _KINDS.items():
        text = json.dumps(content.get(part))
        odd = sorted({str(kind)[:40] for kind in _values_of(content.get(part), "type")} - kinds)
        if odd or len(text) > _MAX_PART_CHARS:
            raise _refused(f"its {part} is {', '.join(odd) or f'{len(text):,} characters long'}")
    for pattern in _values_of(content.get("pre_tokenizer"), "Regex"):
        if pattern != _PATTERN:
            raise _refused("its pre_tokenizer splits by a pattern of its own")
    _check_bpe(content.get("model"))
    check_token_texts(file, content["model"]["vocab"])
    added = content.get("added_tokens") or []
    if not isinstance(added, list) or len(added) > MAX_ADDED_TOKENS:
        raise _refused(f"it adds more than {MAX_ADDED_TOKENS:,} tokens")
    if not all(isinstance(token, Mapping) and _is_token_id(token.get("id")) for token in added):
        raise _refused("it adds a token under a number that none has")
    check_token_texts(file, [token.get("content") for token in added])
    ids = content["model"]["vocab"] | {str(token.get("content")): token["id"] for token in added}
    if missing := [token for token in OF_PROMPTS if token not in ids]:
        raise _refused(f"it has no {', '.join(missing)}")
    return {token: ids[token] for token in OF_PROMPTS}


def check_token_texts(file: Path, texts: Iterable[Any]) -> None:
    """Raise ModelFilesInvalid if one of them is longer than any token."""
    longest = max((len(text.encode("utf-8", "replace")) for text in texts if isinstance(text, str)), default=0)
    if longest > _MAX_TOKEN_BYTES:
        raise ModelFilesInvalid(
            f"{file.name} has a token of {longest:,} bytes, which no model has; use a checkpoint with its original "
            "tokenizer"
        )


def _check_bpe(model: Any) -> None:
    if not isinstance(model, Mapping) or model.get("type") != "BPE":
        raise _refused("its model is no BPE")
    if odd := [name for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix") if model.get(name)]:
        raise _refused(f"its model has a {odd[0]}")
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, Mapping) or not all(map(_is_token_id, vocabulary.values())):
        raise _refused("its vocabulary has a number that no token has")


def _is_token_id(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MAX_TOKEN_ID


def _values_of(value: Any, key: str) -> Iterator[Any]:
    """Every value that stands under `key` in a part, however deep."""
    for name, inner in (
        value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else ())
    ):
        if name == key:
            yield inner
        yield from _values_of(inner, key)


def _refused(what: str) -> ModelFilesInvalid:
    return ModelFilesInvalid(
        f"tokenizer.json is not like that of a Qwen model: {what}; use a checkpoint with its original tokenizer"
    )
