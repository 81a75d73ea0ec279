"""Requests of many go on in turns: how many steps of others one waits for is counted, not timed."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import socket
import threading
from collections.abc import Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from backend.api.turns import Turns
from backend.fair_shares import MAX_OWNERS
from tests.backend.serving import read_all, serving, setup_body
from tests.limits import WAIT_S


class Work:
    """Requests whose steps take one second each of a clock that only they move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps: list[str] = []
        self.turns = Turns(clock=lambda: self.now)

    async def request(self, project: str, num_steps: int = 1, takes: float = 1.0) -> str:
        for step in range(num_steps):
            if step:
                await asyncio.sleep(0)
            self.steps.append(project)
            self.now += takes
        return project

    def begin(self, project: str, **more: Any) -> asyncio.Task[str]:
        return asyncio.create_task(self.turns.run(project, self.request(project, **more)))


def run(main: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(WAIT_S):
            await main

    asyncio.run(limited())


def test_one_request_waits_for_a_step_or_two_of_another_project_not_for_fifty_requests() -> None:
    async def main() -> None:
        work = Work()
        many = [work.begin("many", num_steps=3) for _ in range(50)]
        one = work.begin("one", num_steps=3)
        await one
        assert work.steps.count("many") <= 5
        assert await asyncio.gather(*many) == ["many"] * 50

    run(main())


def test_projects_share_the_time_and_not_the_number_of_steps() -> None:
    async def main() -> None:
        work = Work()
        slow = [work.begin("slow", takes=10.0) for _ in range(20)]
        quick = [work.begin("quick") for _ in range(20)]
        await asyncio.gather(*quick)
        assert work.steps.count("slow") <= 4
        await asyncio.gather(*slow)

    run(main())


def test_who_comes_after_a_long_time_has_saved_up_nothing() -> None:
    async def main() -> None:
        work = Work()
        await asyncio.gather(*(work.begin("early") for _ in range(100)))
        late = [work.begin("late") for _ in range(20)]
        early = [work.begin("early") for _ in range(20)]
        await asyncio.gather(*early)
        assert work.steps.count("late") >= 18
        await asyncio.gather(*late)
        assert work.steps[100:120].count("early") >= 8

    run(main())


def test_other_callbacks_of_the_loop_run_between_any_two_steps() -> None:
    async def main() -> None:
        work = Work()
        seen: list[int] = []

        def look() -> None:
            seen.append(len(work.steps))
            if len(work.steps) < 50:
                asyncio.get_running_loop().call_soon(look)

        requests = [work.begin("many") for _ in range(50)]
        asyncio.get_running_loop().call_soon(look)
        await asyncio.gather(*requests)
        assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(seen))
        assert len(seen) >= 50

    run(main())


@pytest.mark.parametrize("when", ["before its turn", "while it waits for something else"])
def test_a_request_that_is_cancelled_ends_and_holds_up_nobody(when: str) -> None:
    async def main() -> None:
        work, ended = Work(), asyncio.Event()

        async def waits() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        if when == "before its turn":
            work.begin("first")
        waiting = asyncio.create_task(work.turns.run("gone", waits()))
        for _ in range(1 if when == "before its turn" else 5):
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert ended.is_set() == (when != "before its turn")
        assert await work.begin("other") == "other"

    run(main())


def test_what_the_work_raises_is_raised_and_a_timeout_within_it_is_its_own() -> None:
    async def main() -> None:
        turns = Turns()

        async def late() -> str:
            try:
                async with asyncio.timeout(0.001):
                    await asyncio.Event().wait()
            except TimeoutError:
                return "late"
            return "never"

        async def wrong() -> None:
            await asyncio.sleep(0)
            raise ValueError("wrong")

        assert await turns.run("p", late()) == "late"
        with pytest.raises(ValueError, match="wrong"):
            await turns.run("p", wrong())

    run(main())


def test_of_endless_projects_only_some_are_remembered() -> None:
    async def main() -> None:
        work = Work()
        for number in range(3 * MAX_OWNERS):
            await work.begin(str(number))
        assert await work.begin("last") == "last"

    run(main())


def test_over_http_one_project_is_set_up_before_most_of_the_others_that_came_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "backend.api.app")
    with serving(tmp_path) as server, ExitStack() as opened:
        server.client.post("/setup", json=setup_body())
        caplog.clear()
        stands_still = threading.Event()
        server.time.call(lambda: stands_still.wait(WAIT_S))
        connections = []
        for project in ["1.1"] * 40 + ["2.2"]:
            content = json.dumps(setup_body(project=project)).encode()
            connection = opened.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S))
            connection.sendall(b"POST /setup HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n")
            connection.sendall(b"Content-Length: %d\r\n\r\n%b" % (len(content), content))
            connections.append(connection)
        stands_still.set()
        assert all(read_all(connection).startswith(b"HTTP/1.1 200") for connection in connections)
    told = [message.split(":")[0] for message in caplog.messages if message.startswith("project ")]
    assert len(told) >= 41
    assert told.index("project 2.2") < len(told) / 2
