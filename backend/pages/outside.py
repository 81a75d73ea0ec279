"""How a text from outside is said on a page: on one line of what a person can see, without secrets, cut at a length.

Gives plain text: escaping is the page's. Nothing raises.
"""

from __future__ import annotations

from backend.logs import redact
from label_config.visible import visible_text

_READ_AHEAD = 4  # hidden characters are dropped before the cut


def shown(text: str, max_chars: int) -> str:
    """`text` with "…" where it was cut. Safe to encode as UTF-8."""
    found = visible_text(text[: max_chars * _READ_AHEAD], max_chars + 1)
    return found if len(found) <= max_chars else f"{found[:max_chars]}…"


def shown_source(text: str, max_chars: int) -> str:
    """A path or an address: without passwords and the query of a presigned address. The end of a path says most."""
    found = visible_text(redact(text[:8_192]), 8_192)
    return found if len(found) <= max_chars else f"…{found[-max_chars:]}"
