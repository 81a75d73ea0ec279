"""Label configs: the text of one becomes a schema; on the command line a ready-made name, or a file. Raises
ConfigRefused.

What was parsed lately is remembered for the whole process, for any thread. Knows no Label Studio;
`default_label_config` is what a command uses when nobody names one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from cachetools import LRUCache

from backend.errors import ConfigRefused
from label_config.errors import UnsupportedConfig
from label_config.parse import parse_label_config
from label_config.ready_made import ready_made, ready_made_names
from label_config.schema import ChoicesField, LabelSchema, TaxonomyField

MAX_FILE_BYTES = 256 * 1024
MAX_KNOWN_CHARS = 4 * 2**20
"""Of all label configs that are remembered: hundreds, where one has 10,000. Their schemas take 7 bytes a character."""

_known: LRUCache[str, tuple[LabelSchema, int]] = LRUCache(MAX_KNOWN_CHARS, getsizeof=lambda known: known[1])
_known_lock = threading.Lock()


def read_label_config(name_or_path: str) -> str:
    """Return the XML. A ready-made name wins over a file of the same name."""
    if name_or_path in ready_made_names():
        return ready_made(name_or_path)
    path = Path(name_or_path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise ConfigRefused(f"--label-config: {path} is larger than {MAX_FILE_BYTES // 1024} KiB.")
        return content.decode("utf-8-sig")
    except OSError as error:
        names = ", ".join(ready_made_names())
        raise ConfigRefused(
            f"--label-config: {path} cannot be read ({error.strerror}). Give a file, or one of {names}."
        ) from None
    except UnicodeDecodeError:
        raise ConfigRefused(f"--label-config: {path} is not UTF-8 text. Save it as UTF-8.") from None


def default_label_config(model_name: str, language: str) -> str:
    """The name of the ready-made config that goes with a loaded model: the built-in one knows garments only."""
    return f"{'garments' if model_name == 'garments' else 'ecommerce'}.{language}"


def unknown_to_garments(schema: LabelSchema) -> list[str]:
    """What `schema` asks for that the built-in model was not trained on: labels, and fields that have none (but a
    caption). It was trained on any of the fields of its own label configs, in any order and under any names."""
    own = (parse_label_config(ready_made(name)) for name in ready_made_names() if name.startswith("garments."))
    known = {asked for config in own for asked in _asked(config)}
    return [asked for asked in dict.fromkeys(_asked(schema)) if asked not in known]


def _asked(schema: LabelSchema) -> Iterator[str]:
    for field in schema.fields:
        if isinstance(field, TaxonomyField):
            yield from (node.value for path in field.paths() for node in path)
        elif isinstance(field, ChoicesField):
            yield from (choice.value for choice in field.choices)
        elif field != schema.caption:
            yield field.title or field.name


def fields_differ(before: str, after: str) -> bool:
    """Whether what is asked for `before` may not fit `after`; layout and wording may change."""
    try:
        return parse_label_config(before).fingerprint != parse_label_config(after).fingerprint
    except UnsupportedConfig:  # nothing was asked for one that cannot be pre-filled
        return False


def parse_or_refuse(xml: str) -> LabelSchema:
    """`parse_label_config`, with the refusal as an error of ours."""
    try:
        return parse_label_config(xml)
    except UnsupportedConfig as error:
        raise ConfigRefused(f"The label config cannot be pre-filled: {error}") from None


def schema_of(xml: str) -> LabelSchema:
    """The schema of a project's label config, remembered or parsed here."""
    schema = known_schema(xml)
    if schema is None:
        schema = parse_config(xml)
        remember(xml, schema)
    return schema


def known_schema(xml: str) -> LabelSchema | None:
    """None if it is not remembered."""
    with _known_lock:
        known = _known.get(xml)
    return known[0] if known else None


def remember(xml: str, schema: LabelSchema) -> None:
    """`schema` is what `parse_config` made of `xml`, wherever that was."""
    if len(xml) <= MAX_KNOWN_CHARS:
        with _known_lock:
            _known[xml] = schema, len(xml)


def parse_config(xml: str) -> LabelSchema:
    """Tenths of a second for the largest ones. Its fingerprint, which takes as long again, is taken here."""
    try:
        schema = parse_label_config(xml)
    except UnsupportedConfig as error:
        raise ConfigRefused(str(error)) from None
    _ = schema.fingerprint
    return schema
