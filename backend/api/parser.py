"""Run the readers of `requests`, and parse label configs, where they cannot stall the event loop, nor each other.

`json.loads` holds the GIL: 13 MB of tasks would stop /health for 0.4 s, 68 MB for 2.6 s, and Label Studio gives it
1 s. A thread has the same lock, and eight bodies of 1 MiB made of `[],` stopped /health for 1.6 s from threads. So only
a small body is read on the loop; others go to one of two processes, which are limited in memory: the larger ones have
one of their own, and in the other the smaller goes first. There new label configs are parsed, too, whatever their
length: one of 32 KB takes 20 ms, and somebody may send them without end. A faster parser in a thread is not enough:
typed decoding by msgspec 0.23 takes a third of the time, but all of it with the GIL. Nor does it see a key that is
there twice, or what is not UTF-8 in a field it skips.
Raises what the readers of `requests` raise, and EngineBusy when a process died or is too slow, or too many wait.
"""

from __future__ import annotations

import asyncio
import bisect
import functools
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from backend.api.reader import Reader, ReaderEnded
from backend.errors import EngineBusy
from backend.predict.label_configs import known_schema, parse_config, remember
from backend.shared_work import SharedWork
from label_config.schema import LabelSchema

P = ParamSpec("P")
T = TypeVar("T")

MAX_INSTANT_BYTES = 2**15
"""Bodies up to this size are read on the loop, in some milliseconds."""
BYTES_PER_OBJECT = 128
"""A body counts as so long for each of its objects at least: what is done for a task takes as long for one of 28 bytes
as for one of a KiB. Label Studio's tasks and regions are longer."""
MODERATE_BYTES = 2 * 2**20
"""Bodies up to this size share a process, and a room of `bodies`, with none that is larger: 0.3 s of work at worst."""
LATER_S_PER_BYTE = 0.5 / 2**20
"""A moderate body lets smaller ones go first that come this much later; so it waits for no endless row of them."""
LATER_S_PER_CONFIG_CHAR = 4 / 2**18
"""As much for a label config: the largest takes 0.3 s, so it lets short ones go first for seconds. Those of one project
have their turns so far apart."""
MIN_CONFIG_CHARS = 2**12  # a shorter one counts as this long
MAX_WAITING_CONFIG_CHARS = 2**19
"""Of new label configs that wait for their turn, half a second of work. Above it the last in turn is refused."""
PARSE_S = 60.0

log = logging.getLogger(__name__)


def length_of(body: bytes) -> int:
    """Its bytes, or as many as its objects are worth."""
    return max(len(body), BYTES_PER_OBJECT * body.count(b"{"))


class BodyParser:
    """`limit_s`: for one body, its turn included."""

    def __init__(self, limit_s: float = PARSE_S) -> None:
        self._moderate = _Lane(limit_s)
        self._large = _Lane(limit_s)
        self._schemas: SharedWork[tuple[str, str], LabelSchema] = SharedWork()

    async def run(self, num_bytes: int, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return `read(*args, **kwargs)`; `num_bytes` is the `length_of` the body among them."""
        if num_bytes <= MAX_INSTANT_BYTES:
            return read(*args, **kwargs)
        lane = self._moderate if num_bytes <= MODERATE_BYTES else self._large
        turn = _Turn(LATER_S_PER_BYTE * min(num_bytes, MODERATE_BYTES))
        try:
            return await lane.run(turn, functools.partial(read, *args, **kwargs))
        except (ReaderEnded, TimeoutError):
            raise EngineBusy(
                "The request could not be read; it may be too large. Select fewer tasks at once."
            ) from None

    async def schema(self, project: str, label_config: str) -> LabelSchema:
        """Return the schema of a project's label config: at once if it is known, else projects take turns, and all who
        ask for the same share one. Raises ConfigRefused."""
        schema = known_schema(label_config)
        if schema is None:
            new = functools.partial(self._new_schema, project, label_config)
            schema = await self._schemas.join((project, label_config), new)
        return schema

    async def _new_schema(self, project: str, label_config: str) -> LabelSchema:
        num_chars = max(MIN_CONFIG_CHARS, len(label_config))
        turn = _Turn(LATER_S_PER_CONFIG_CHAR * num_chars, num_chars, project)
        try:
            schema = await self._moderate.run(turn, functools.partial(parse_config, label_config))
        except (ReaderEnded, TimeoutError):
            raise EngineBusy("The label config could not be read; it may be too large. Make it shorter.") from None
        remember(label_config, schema)
        return schema

    def warm_up(self) -> None:
        """Start the processes now, so that the first request does not wait for them."""
        self._moderate.warm_up()
        self._large.warm_up()

    def close(self) -> None:
        """End the processes, and return when they have ended."""
        self._moderate.close()
        self._large.close()


@dataclass(slots=True, eq=False)
class _Turn:
    """Of what is read: `later_s` after it came, and of a label config after the others of its `project`."""

    later_s: float
    config_chars: int = 0
    project: str = ""
    place: float = 0.0
    comes: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class _Lane:
    """A process that reads one body or label config after the other, and a thread that waits for it."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._reader = Reader()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="body-reader")
        self._is_busy = False
        self._waiting: list[_Turn] = []

    async def run(self, turn: _Turn, read: Callable[[], T]) -> T:
        """Raises ReaderEnded and TimeoutError besides what `read` raises."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._limit_s):
            await self._wait(turn)
            try:
                return await loop.run_in_executor(self._thread, self._reader.call, read, self._limit_s)
            except ReaderEnded as error:
                log.warning("the process that reads large requests was started again: %s", error)
                raise
            except asyncio.CancelledError:  # a parse cannot be interrupted, and nobody waits for it any more
                self._reader.kill()
                raise
            finally:
                self._next()

    async def _wait(self, turn: _Turn) -> None:
        if self._is_busy:
            self._line_up(turn)
            try:
                await turn.comes
            except asyncio.CancelledError:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                elif not turn.comes.cancelled() and turn.comes.exception() is None:  # it came in the same moment
                    self._next()
                raise
        self._is_busy = True

    def _line_up(self, turn: _Turn) -> None:
        configs = [other for other in self._waiting if other.config_chars and not other.comes.done()]
        before_s = sum(other.later_s for other in configs if turn.config_chars and other.project == turn.project)
        turn.place = asyncio.get_running_loop().time() + before_s + turn.later_s
        bisect.insort(self._waiting, turn, key=lambda other: other.place)
        if turn.config_chars and sum(other.config_chars for other in (*configs, turn)) > MAX_WAITING_CONFIG_CHARS:
            last = max((*configs, turn), key=lambda other: other.place)
            self._waiting.remove(last)
            last.comes.set_exception(
                EngineBusy(f"{len(configs)} other new label configs wait to be read. Try again in a moment.")
            )

    def _next(self) -> None:
        self._is_busy = False
        while self._waiting and not self._is_busy:
            turn = self._waiting.pop(0)
            if not turn.comes.done():  # else nobody waits for it any more
                self._is_busy = True
                turn.comes.set_result(None)

    def warm_up(self) -> None:
        self._thread.submit(self._reader.call, os.getpid, self._limit_s)

    def close(self) -> None:
        self._reader.kill()
        self._thread.submit(self._reader.end)
        self._thread.shutdown()
