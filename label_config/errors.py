"""What can be wrong with a label config or an answer. Both are ValueErrors with a text a person can act on."""

from __future__ import annotations


class UnsupportedConfig(ValueError):
    """The label config cannot be honoured; the message names the tag or attribute and what to change."""


class MalformedAnswer(ValueError):
    """Generated text is not an answer to the schema (cut before the first field was complete, or not JSON)."""
