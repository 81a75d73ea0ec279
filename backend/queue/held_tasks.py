"""Which picture addresses may be written to disk: none that carries a key, and none that is the picture itself.

What is withheld is stored without user name and query, and marked, so that the row says which picture it is about; the
task with its whole address stays in memory (`HeldTasks`). Errs on the side of withholding: that costs a task its place
only when prelabel is restarted before its turn. No I/O; nothing raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote

from cachetools import FIFOCache

from backend.predict.task import TaskInput
from backend.store.types import NewWork, Work
from backend.urls import as_browsers_read

WITHHELD = "#withheld"
MAX_URL_CHARS = 8_192
MAX_HELD = 200_000
_INLINE = re.compile(r"(?i)\s*data:")
_WEB = re.compile(r"(?i)(https?:)?//")
_SECRET_NAME = re.compile(
    r"(?i)sign|credential|token|secret|passw|pwd|key|auth|hmac|hash|md5|jwt|ticket|session|hdn|^(sig|st|sk|sv|se|sp|policy)$"
)
_SECRET_VALUE = re.compile(r"eyJ[\w-]+\.|[0-9a-fA-F]{24,}|[A-Za-z0-9_+=-]{40,}")
_LABEL_STUDIO = frozenset({"d", "fileuri"})  # its own addresses of files: a path, and a storage address in base64


def is_too_large(url: str) -> bool:
    """Whether it holds the picture itself, or is longer than any real address."""
    return len(url) > MAX_URL_CHARS or _INLINE.match(url) is not None


def for_disk(url: str) -> str:
    """`url` as it may be stored: unchanged, or without its secrets and with WITHHELD at its end."""
    read = as_browsers_read(url)
    address, *queries = re.split("[?#]", read, maxsplit=1)
    query = "".join(queries)
    scheme, slashes, rest = address.rpartition("//")
    host, slash, path = rest.partition("/")
    if slashes and "@" in host:
        address, query = f"{scheme}{slashes}{host.rpartition('@')[2]}{slash}{path}", query or "@"
    elif not query or not _is_secret(query, of_web=_WEB.match(read) is not None or "://" not in address):
        return url
    return address + WITHHELD


def is_withheld(url: str | None) -> bool:
    return url is not None and url.endswith(WITHHELD)


def _is_secret(query: str, *, of_web: bool) -> bool:
    if not of_web:  # s3://, gs://: nobody knows what their queries say
        return True
    for part in re.split("[&;#?]", query):
        name, _, value = part.partition("=")
        if name in _LABEL_STUDIO:
            continue
        if _SECRET_NAME.search(unquote(name)) or _SECRET_VALUE.search(unquote(value or name)):
            return True
    return False


class HeldTasks:
    """The tasks whose rows have their addresses withheld, whole: the newest `max_held` of them. They are given by the
    `task_id` of their rows, whatever the model version. Hold them before the rows are in the store: their turn may come
    at once."""

    def __init__(self, max_held: float = MAX_HELD) -> None:
        self._held: FIFOCache[tuple[str, int], TaskInput] = FIFOCache(max_held)

    def hold(self, rows: Iterable[NewWork], tasks: Mapping[int, TaskInput]) -> None:
        for row in rows:
            if row.task_id in tasks:
                self._held[_key(row)] = tasks[row.task_id]

    def whole(self, work: Work) -> TaskInput:
        """The task itself; with its address as it is stored if that is whole, or if the whole one is not known any
        more."""
        stored = TaskInput(work.task_id, work.image_url)
        return self._held.get(_key(work), stored) if is_withheld(work.image_url) else stored

    def forget(self, rows: Iterable[NewWork | Work], tasks: Mapping[int, TaskInput]) -> None:
        """But for rows that were asked for with another address meanwhile."""
        for row in rows:
            if row.task_id in tasks and self._held.get(_key(row)) is tasks[row.task_id]:
                del self._held[_key(row)]


def _key(row: NewWork | Work) -> tuple[str, int]:
    return row.project, row.task_id
