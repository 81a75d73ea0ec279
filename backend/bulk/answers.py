"""Answers that are there already: of this run's last pictures, and of the store that `prelabel serve` fills.

Beside a running server the store is only read and added to; what the server adds during the run may be computed once
more. Without a usable store the run goes on and remembers the last MAX_REMEMBERED answers. Use it from one event loop.
Trouble with the store raises nothing: it is logged once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from pathlib import Path

from cachetools import LRUCache

from backend.errors import PrelabelError, StoreError
from backend.predict.answered import Answered
from backend.predict.recipe import Recipe
from backend.store import Store, StoredAnswer
from backend.store.serving import FILE_NAME
from backend.store.state_file import prepare_data_dir

log = logging.getLogger(__name__)

MAX_REMEMBERED = 1_000
SAVE_EVERY_S = 1.0
MAX_UNSAVED = 10_000


class Answers:
    """`find` is what an Answerer asks first; `note` is told of every answer given.

    Nearly every picture is new, and looking each up in the store costs more than preparing it does. So the hashes of
    the keys that are there are held in memory: 76 MiB for a million answers.
    """

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self._maybe_stored: set[int] = set()
        self._recent: LRUCache[str, Answered] = LRUCache(MAX_REMEMBERED)
        self._unsaved: dict[str, Answered] = {}
        self._saver: asyncio.Task[None] | None = None
        self._complained = False

    @classmethod
    def open(cls, data_dir: Path, answer_version: str) -> Answers:
        """Blocking. Only answers of `answer_version` will be looked for."""
        try:
            prepare_data_dir(data_dir)
            with contextlib.ExitStack() as unless_usable:
                store = unless_usable.enter_context(Store.beside(data_dir / FILE_NAME, time.time()))
                answers = cls(store)
                answers._maybe_stored.update(map(hash, store.answer_keys(f":{answer_version}")))
                unless_usable.pop_all()
                return answers
        except PrelabelError as error:
            log.warning("answers are neither looked up nor kept: %s", error)
            return cls(None)

    def start(self) -> None:
        if self._store is not None:
            self._saver = asyncio.create_task(self._save_now_and_then())

    async def find(self, recipe: Recipe, key: str) -> Answered | None:
        """Raises ValueError for a stored answer that cannot be read."""
        answered = self._recent.get(key) or self._unsaved.get(key)
        if answered is None and self._store is not None and hash(key) in self._maybe_stored:
            try:
                # Not in a thread: it reads one row, and nothing else of this process is in a hurry.
                stored = self._store.answer(key)
            except StoreError as error:
                self._complain(error)
                return None
            answered = Answered.read(recipe, key, stored.content) if stored else None
        if answered is not None:
            self._recent[key] = answered
        return answered

    def note(self, answered: Answered) -> bool:
        """Keep it; say whether it was known, and so cost nothing."""
        is_known = answered.key in self._recent
        self._recent[answered.key] = answered
        if not is_known and self._store is not None and len(self._unsaved) < MAX_UNSAVED:
            self._unsaved[answered.key] = answered
            self._maybe_stored.add(hash(answered.key))
        return is_known

    async def aclose(self) -> None:
        """Save what is not saved."""
        if self._saver is not None:
            self._saver.cancel()
            await asyncio.gather(self._saver, return_exceptions=True)
            await self._save()
        if self._store is not None:
            await asyncio.to_thread(self._store.close)

    async def _save_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(SAVE_EVERY_S)
            await self._save()

    async def _save(self) -> None:
        """In one transaction: each waits for the disk."""
        store, chosen = self._store, dict(self._unsaved)
        if store is None or not chosen:
            return
        items = [StoredAnswer(key, answered.content) for key, answered in chosen.items()]
        try:
            await asyncio.to_thread(store.save_answers, items, time.time())
        except StoreError as error:
            self._complain(error)
            return
        for key in chosen:
            del self._unsaved[key]

    def _complain(self, error: StoreError) -> None:
        if not self._complained:
            self._complained = True
            log.warning("the store has trouble; the run goes on: %s", error)
