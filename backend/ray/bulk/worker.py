"""The part of a bulk run that Ray repeats on every card or machine: an engine, and batches of pictures for it.

Builds the same `LocalAnnotator` as a run without Ray, on an event loop in a thread of its own; Ray calls it from
several threads at once, so that the engine never waits for a batch to end. Writes no file and keeps no answer beyond
the last ones in memory: the ledger and the store belong to the process that started the run.
What goes wrong for good is a `Reply` with `error`; nothing raises.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rich.console import Console

from backend.bulk.answers import Answers
from backend.bulk.items import Item
from backend.bulk.label_configs import LabelConfig
from backend.bulk.local import FETCH_S, LocalAnnotator
from backend.bulk.local_run import Loaded, loaded_model
from backend.bulk.outcomes import FailedItem, Outcome, Record
from backend.engine.api import Engine
from backend.errors import EngineDead, PrelabelError, one_line
from backend.logs import configure_logging
from backend.predict.build import build_engine
from backend.settings import Settings
from backend.status.starting import said_of, tell_lines

T = TypeVar("T")

BATCH_S = 16 * 3600.0 + FETCH_S + 1_200.0
"""A batch may live through a restart of its engine, which may wait for its card or the hub for 12 h, and then loads."""
COLUMN = "pickled"
"""Items go to a worker and replies come back as bytes in a column of this name."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a worker says of one batch. `error`: it cannot go on; what was done before that is in `outcomes`.

    `worker` names its machine and process, `model_name` and `model_version` what it has loaded, `seconds` how
    long the batch took, `slower` what makes its engine slower than it should be, or had it started again.
    """

    worker: str
    outcomes: tuple[Outcome, ...] = ()
    model_name: str = ""
    model_version: str = ""
    seconds: float = 0.0
    error: str = ""
    slower: tuple[tuple[str, str], ...] = ()


class BulkWorker:
    """The class that Ray Data's `map_batches` makes one actor of for each worker. Made when its model is loaded."""

    def __init__(
        self,
        settings: Settings,
        config: LabelConfig | None,
        tell: Callable[[str], None],
        engine: Engine | None = None,
        code: str = "",
    ) -> None:
        """`tell` is given what the engine is at while it starts, restarts included, a line at a time. `engine`: in
        place of the one that `settings` ask for. `code`: of prelabel's where the run was started; a machine with
        another loads nothing."""
        configure_logging(settings.log_level)
        self._name = f"{socket.gethostname()}, process {os.getpid()}"
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="bulk-worker", daemon=True).start()
        self._open = contextlib.AsyncExitStack()
        self._error = ""
        try:
            # as long as it takes: the engine ends what stands still
            loading = self._load(settings, config, tell, engine or build_engine(settings, code=code))
            self._loaded, self._annotator = self._call(loading, limit_s=None)
        except PrelabelError as error:
            self._error = str(error)

    def __call__(self, batch: Mapping[str, Sequence[bytes]]) -> dict[str, list[bytes]]:
        items: list[Item] = [pickle.loads(packed) for packed in batch[COLUMN]]  # noqa: S301 - our own driver's
        reply = self._call(self._reply(items)) if not self._error else Reply(self._name, error=self._error)
        return {COLUMN: [pickle.dumps(reply)]}

    async def _load(
        self, settings: Settings, config: LabelConfig | None, tell: Callable[[str], None], engine: Engine
    ) -> tuple[Loaded, LocalAnnotator]:
        quiet, name = Console(quiet=True), self._name
        self._telling = asyncio.create_task(tell_lines(engine, lambda status: tell(f"{name}: {said_of(status)}")))
        loaded = await self._open.enter_async_context(loaded_model(settings, config, quiet, asyncio.Event(), engine))
        return loaded, loaded.annotator(Answers(None))

    async def _reply(self, items: list[Item]) -> Reply:
        began = time.monotonic()
        results = await asyncio.gather(*map(self._annotator.annotate, items), return_exceptions=True)
        error = next((result for result in results if isinstance(result, BaseException)), None)
        loaded, status = self._loaded, self._loaded.engine.status
        return Reply(
            self._name,
            tuple(result for result in results if isinstance(result, Record | FailedItem)),
            loaded.ready.model_name,
            loaded.model_version,
            time.monotonic() - began,
            "" if error is None else str(error) if isinstance(error, EngineDead) else one_line(error),
            (*status.slower, *status.restarted),
        )

    def _call(self, work: Coroutine[Any, Any, T], limit_s: float | None = BATCH_S) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(limit_s)
