"""However many ask for the status, few wait for it: each keeps a connection, and there is an end to those."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

from backend.api.status_pages import MAX_WAITING, StatusPages
from backend.errors import EngineBusy, StoreError
from tests.limits import WAIT_S

NUM_MORE = 20


def test_who_would_wait_behind_many_is_told_to_ask_again() -> None:
    async def main() -> None:
        looked, may_end = threading.Event(), threading.Event()

        def summary() -> None:
            looked.set()
            assert may_end.wait(WAIT_S)
            raise StoreError("this test has no store")

        core: Any = SimpleNamespace(clock=lambda: 0.0, store=SimpleNamespace(summary=summary))
        pages = StatusPages(core)
        asking = [asyncio.create_task(pages.view()) for _ in range(MAX_WAITING + NUM_MORE)]
        assert await asyncio.to_thread(looked.wait, WAIT_S)
        refused = [one for one in asking if one.done()]
        assert len(refused) == NUM_MORE
        assert all(isinstance(one.exception(), EngineBusy) for one in refused)
        may_end.set()
        ends = await asyncio.gather(*asking, return_exceptions=True)
        assert [type(end) for end in ends].count(StoreError) == MAX_WAITING
        assert await pages.view_or_none() is None, "there is room again"

    asyncio.run(asyncio.wait_for(main(), WAIT_S))
