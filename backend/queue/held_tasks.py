"""Which picture addresses may be written to disk: none that carries a key, and none that is the picture itself.

What is withheld is stored without user name, query and signed folders, and marked, so that the row says which picture
it is about; the task with its whole address stays in memory (`HeldTasks`). Errs on the side of withholding: that costs
a task its place only when prelabel is restarted before its turn. No I/O; nothing raises.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from hashlib import blake2b

from cachetools import FIFOCache

from backend.predict.task import TaskInput
from backend.signatures import HIDDEN, MARK_IN_LOGIN, query_is_secret, unsigned_path
from backend.store.threads import in_thread
from backend.store.types import NewWork, Work
from backend.urls import as_browsers_read

WITHHELD = "#withheld"
MAX_URL_CHARS = 8_192
MAX_HELD_BYTES = 256 * 2**20
"""Of memory: some 250,000 signed addresses of usual length."""
TASK_BYTES = 500
"""What a held task takes beside its address."""
INSTANT_CHARS = 4_096
"""Of addresses that are looked through on the loop; one that is made for it takes 3 ms a thousand."""
PART_CHARS = 2**14
"""Of those that are looked through in a thread before the addresses of another request have a turn."""
_INLINE = re.compile(r"(?i)\s*data:")
_ADDRESS = re.compile(r"([^?#]*)([?#].*)?", re.DOTALL)
_HOST = re.compile(r"(?i)((?:(https?)|[a-z][a-z0-9+.-]*):)?//([^/]*@)?")


def is_too_large(url: str) -> bool:
    """Whether it holds the picture itself, or is longer than any real address."""
    return len(url) > MAX_URL_CHARS or _INLINE.match(url) is not None


def for_disk(url: str) -> str:
    """`url` as it may be stored: unchanged, or without its secrets and with WITHHELD at its end."""
    address, query = as_browsers_read(url), ""
    if odd := MARK_IN_LOGIN.match(address):
        return odd[1] + _told_apart(address) + WITHHELD
    if found := _ADDRESS.fullmatch(address):
        address, query = found[1], found[2] or ""
    stored, of_web = address, True
    if host := _HOST.match(address):
        stored = host[0].removesuffix(host[3] or "") + address[host.end() :]
        of_web = host[1] is None or host[2] is not None
    stored = unsigned_path(stored, _told_apart)
    # s3://, gs://: nobody knows what their queries say
    is_secret = bool(query) and (not of_web or query_is_secret(query, address))
    return stored + WITHHELD if is_secret or stored != address else url


class DiskAddresses:
    """`for_disk` of many addresses. Use it from one event loop, which long ones do not stop: they may be written to be
    slow, and a click on a few hundred tasks with such took seconds. Requests take turns."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def of(self, tasks: Sequence[TaskInput]) -> list[str | None]:
        """None for a task without an address."""
        if sum(len(task.image_url or "") for task in tasks) <= INSTANT_CHARS:
            return _all_for_disk(tasks)
        found: list[str | None] = []
        for part in _parts(tasks):
            async with self._turn:
                found += await in_thread(partial(_all_for_disk, part))
        return found


def _all_for_disk(tasks: Sequence[TaskInput]) -> list[str | None]:
    return [None if task.image_url is None else for_disk(task.image_url) for task in tasks]


def _parts(tasks: Sequence[TaskInput]) -> Iterator[Sequence[TaskInput]]:
    """Of PART_CHARS at most where that is possible."""
    start = num_chars = 0
    for place, task in enumerate(tasks):
        chars = len(task.image_url or "")
        if num_chars + chars > PART_CHARS and place > start:
            yield tasks[start:place]
            start, num_chars = place, 0
        num_chars += chars
    yield tasks[start:]


def _told_apart(signature: str) -> str:
    """In a path it may be what the picture is found by, so another one is another address."""
    return HIDDEN + blake2b(signature.encode("utf-8", "replace"), digest_size=4).hexdigest()


def is_withheld(url: str | None) -> bool:
    return url is not None and url.endswith(WITHHELD)


class HeldTasks:
    """The tasks whose rows have their addresses withheld, whole: the newest that take `max_bytes` together. They are
    given by the `task_id` of their rows, whatever the model version. Hold them before the rows are in the store: their
    turn may come at once."""

    def __init__(self, max_bytes: float = MAX_HELD_BYTES) -> None:
        self._held: FIFOCache[tuple[str, int], TaskInput] = FIFOCache(max_bytes, getsizeof=_num_bytes)

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


def _num_bytes(task: TaskInput) -> int:
    return TASK_BYTES + sys.getsizeof(task.image_url)


def _key(row: NewWork | Work) -> tuple[str, int]:
    return row.project, row.task_id
