"""One readable line a log record, with the request it belongs to and without secrets.

Redaction works on the finished text of a record, arguments and traceback included, so no caller can forget it.
Covered: credentials in headers, JSON and URLs, query strings and signed folders of URLs, `data:` bodies, JWTs, and
every value given to `hide`. Not covered: a secret under a name we do not know that was never given to `hide`.
Anybody may have a long line written, by asking for a long path: all of it is linear in the length. Nothing here raises.
"""

from __future__ import annotations

import logging
import math
import re
import sys
import time
import unicodedata
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import TextIO

from backend.signatures import HIDDEN, unsigned_path, without_logins

request_id: ContextVar[str] = ContextVar("request_id", default="-")

MAX_LINE_CHARS = 8_000
MAX_ERROR_CHARS = 500
MAX_TOLD = 5
MAX_TOLD_CHARS = 200
"""Of what is said of a project at each /setup: a label config of 4 KB can make it say 100,000 characters."""
SELDOM_S = 60.0
_MIN_SECRET_CHARS = 4  # a shorter "secret" would blank out ordinary words
_MAX_SECRETS = 64

_NAMES = r"(?:access_?token|refresh_?token|api_?key|authorization|password|passwd|basic_auth_pass|secret|login|token)"


def _without_keys(url: re.Match[str]) -> str:
    query = f"?{HIDDEN}" if url["query"] else ""
    host, slash, path = url["path"].partition("/")
    if "@" in host:  # a longer login than is looked for in other texts
        host = f"{HIDDEN}@{host.rpartition('@')[2]}"
    return f"{url['scheme']}{unsigned_path(host + slash + path)}{query}"


_RULES: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"data:[^,\s\"']{0,200},[^\s\"']+"), f"data:{HIDDEN}"),
    (re.compile(r"(?i)\b(?P<scheme>[a-z][a-z0-9+.-]{1,31}://)(?P<path>[^\s\"'?#]*)(?P<query>[?#][^\s\"']*)?"),
     _without_keys),
    (re.compile(r"(?<![^\s\"'=(,])[\w.+-]{1,64}:[^\s/]{1,128}@(?=[\w-]{1,64}[.:]|localhost\b)"), f"{HIDDEN}@"),
    # from the beginning of a run, not from each eyJ in it: a row of those would be looked through as often
    (re.compile(r"(?<![\w-])(?=[\w-]*\beyJ)[\w-]+\.[\w-]+(?:\.[\w-]*)?"), HIDDEN),
    (re.compile(r"(?i)\b(basic|bearer)\s+[\w+/=.~-]{6,}"), rf"\1 {HIDDEN}"),
    (re.compile(rf"(?i)([\"']?\b\w*{_NAMES}[\"']?\s*[:=,]\s*b?)([\"'])(?:\\.|(?!\2).)*\2"), rf"\1\2{HIDDEN}\2"),
    # as a repr has it: SecretStr('...'), Token("...")
    (re.compile(rf"(?i)(\b\w*{_NAMES}[\"']?\s*[:=]\s*)\w+\(b?([\"'])(?:\\.|(?!\2).)*\2\)"), rf"\1{HIDDEN}"),
    (re.compile(rf"(?i)(\b\w*{_NAMES}[\"']?\s*[:=]\s*)(?![\"'*\s])(?:(?:basic|bearer|token)\s+)?[^\s,;&\"'}}]+"),
     rf"\1{HIDDEN}"),
)  # fmt: skip
_secrets: list[str] = []


def hide(secret: str) -> None:
    """Never let this exact value reach the log (a setting's secret, the token a request carried)."""
    if len(secret) < _MIN_SECRET_CHARS or secret in _secrets:
        return
    _secrets.append(secret)
    del _secrets[:-_MAX_SECRETS]


def redact(text: str) -> str:
    """Return `text` without secrets."""
    for secret in _secrets:
        text = text.replace(secret, HIDDEN)
    text = without_logins(text)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def one_line(text: str) -> str:
    """Show control, bidi and surrogate characters as escapes, so that no input can forge or hide a log line."""
    if text.isprintable():  # nearly always; what follows costs as much as half a refused request
        return text
    return "".join(c if _printable(c) else c.encode("unicode_escape").decode("ascii") for c in text)


def shown_error(error: BaseException | str) -> str:
    """The text of an error for a terminal: one line without secrets."""
    return one_line(redact(str(error)))[:MAX_ERROR_CHARS]


def _printable(char: str) -> bool:
    return char == " " or char.isprintable() or unicodedata.category(char) == "Zs"


class LineFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s [%(request_id)s] %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        record.request_id = request_id.get()
        text = super().format(record)
        said = self.formatMessage(record)
        # A traceback is the one thing that may take several lines; each is indented so that it cannot pose as a record.
        lines = [said, *text.removeprefix(said).strip().splitlines()]
        return "\n    ".join(one_line(redact(line)[:MAX_LINE_CHARS]) for line in lines)


def tell(logger: logging.Logger, project: str, warnings: Sequence[str]) -> None:
    """Log what people should hear of a project, which they are told elsewhere in full: of many and long sentences the
    first, cut. Each record takes time of whoever logs it, the event loop for one."""
    for warning in warnings[:MAX_TOLD]:
        shown = warning if len(warning) <= MAX_TOLD_CHARS else f"{warning[:MAX_TOLD_CHARS]}…"
        logger.warning("project %s: %s", project, shown)
    if (more := len(warnings) - MAX_TOLD) > 0:
        logger.warning("project %s: and %d more; the reply to /setup has all", project, more)


class Seldom:
    """A warning that is logged at most once a minute, for what others can make happen a thousand times a second. `text`
    has a %d for how often it has happened."""

    def __init__(self, logger: logging.Logger, text: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._text = text
        self._clock = clock
        self._num = 0
        self._next_at = -math.inf

    def happened(self) -> None:
        self._num += 1
        now = self._clock()
        if now >= self._next_at:
            self._logger.warning(self._text, self._num)
            self._next_at = now + SELDOM_S


def configure_logging(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send every logger, uvicorn's and httpx's too, through one redacting handler on `stream` (default stderr)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    if level != "DEBUG":
        # One line per fetched picture would bury everything else.
        for name in ("httpx", "httpcore", "PIL", "label_studio_sdk"):
            logging.getLogger(name).setLevel(logging.WARNING)
