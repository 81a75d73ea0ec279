"""What can be wrong with a label config or an answer. Both are ValueErrors with a text a person can act on."""

from __future__ import annotations

MAX_SAID_CHARS = 2_000


class UnsupportedConfig(ValueError):
    """The label config cannot be honoured; the message names the tag or attribute and what to change. What it quotes of
    the config may be long: it is cut."""

    def __init__(self, message: str) -> None:
        super().__init__(cut(message))


def cut(message: str) -> str:
    return message if len(message) <= MAX_SAID_CHARS else f"{message[:MAX_SAID_CHARS]}…"


class MalformedAnswer(ValueError):
    """Generated text is not an answer to the schema (cut before the first field was complete, or not JSON)."""
