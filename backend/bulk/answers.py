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
import zlib
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


class MaybeKnown:
    """A set of keys that may say yes to one it never got, but never no to one it did: a bit each, 1 MiB in all.

    Nearly every picture is new, and looking each up in the store costs more than preparing it does. With a million
    answers it says yes to one new picture in nine.
    """

    def __init__(self) -> None:
        self._bits = bytearray(1 << 20)

    def add(self, key: str) -> None:
        place, bit = self._bit(key)
        self._bits[place] |= bit

    def __contains__(self, key: str) -> bool:
        place, bit = self._bit(key)
        return bool(self._bits[place] & bit)

    def _bit(self, key: str) -> tuple[int, int]:
        number = zlib.crc32(key.encode("utf-8", "surrogatepass"))
        return number // 8 % len(self._bits), 1 << number % 8


class Answers:
    """`find` is what an Answerer asks first; `note` is told of every answer given."""

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self._maybe_stored = MaybeKnown()
        self._recent: LRUCache[str, Answered] = LRUCache(MAX_REMEMBERED)
        self._unsaved: dict[str, Answered] = {}
        self._saver: asyncio.Task[None] | None = None
        self._complained = False

    @classmethod
    def open(cls, data_dir: Path, model_version: str) -> Answers:
        """Blocking. Only answers of `model_version` will be looked for."""
        try:
            prepare_data_dir(data_dir)
            with contextlib.ExitStack() as unless_usable:
                store = unless_usable.enter_context(Store.beside(data_dir / FILE_NAME, time.time()))
                answers = cls(store)
                for key in store.answer_keys(f":{model_version}"):
                    answers._maybe_stored.add(key)
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
        if answered is None and self._store is not None and key in self._maybe_stored:
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
            self._maybe_stored.add(answered.key)
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
