"""Large bodies are parsed in another process, so that /health is answered meanwhile."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from backend.api.parser import MAX_PLAIN_BYTES, BodyParser
from backend.api.requests import PredictBody, read_predict
from backend.errors import BadRequest, EngineBusy
from tests.backend.serving import Server, predict_body, serving, strict_json, task
from tests.limits import RUN_S, WAIT_S, until

LARGE = MAX_PLAIN_BYTES + 1


@contextmanager
def stopped(pid: int | None) -> Iterator[None]:
    assert pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def parsing() -> Iterator[BodyParser]:
    parser = BodyParser(WAIT_S)
    try:
        yield parser
    finally:
        parser.close()
        for child in multiprocessing.active_children():
            child.join(WAIT_S)


def test_a_small_body_is_read_here_and_a_large_one_elsewhere() -> None:
    async def run() -> None:
        with parsing() as parser:
            assert await parser.run(10, os.getpid) == os.getpid()
            assert await parser.run(LARGE, os.getpid) != os.getpid()

    asyncio.run(run())


def test_what_comes_back_holds_ids_and_addresses_only() -> None:
    body = json.dumps(predict_body(*(task(n, f"https://a.example/{n}", note="x" * 500) for n in range(2_000)))).encode()
    assert len(body) > MAX_PLAIN_BYTES

    async def run() -> PredictBody:
        with parsing() as parser:
            return await parser.run(len(body), read_predict, body, 5_000)

    read = asyncio.run(run())
    assert len(read.tasks) == 2_000
    assert read.tasks[7].image_url == "https://a.example/7"
    assert read.schema.image_key == "image"


@pytest.mark.parametrize("content", [b"[" * LARGE, b"{" + b" " * LARGE, b'{"tasks": ' + b"9" * LARGE + b"}"])
def test_a_large_malformed_body_is_refused_as_a_small_one_is(content: bytes) -> None:
    async def run() -> None:
        with parsing() as parser, pytest.raises(BadRequest):
            await parser.run(len(content), read_predict, content, 5_000)

    asyncio.run(run())


def test_a_parser_process_that_dies_fails_its_request_and_is_replaced() -> None:
    async def run() -> None:
        with parsing() as parser:
            with pytest.raises(EngineBusy):
                await parser.run(LARGE, signal.raise_signal, signal.SIGKILL)
            assert await parser.run(LARGE, os.getpid) != os.getpid()

    asyncio.run(run())


def test_the_parser_process_ends_with_a_parent_that_was_killed() -> None:
    code = f"import asyncio, os; from backend.api.parser import *; asyncio.run(BodyParser().run({LARGE}, int));"
    command = [sys.executable, "-c", code + "os.kill(os.getpid(), 9)"]
    # The pipe for the output is open until the last process that holds it has ended.
    assert subprocess.run(command, stdout=subprocess.PIPE, timeout=RUN_S).returncode == -9


def num_waiting(server: Server) -> int:
    return int(server.client.get("/health").json()["work"]["waiting"])


def test_health_is_answered_while_a_large_list_is_read_and_every_task_is_accounted_for(tmp_path: Path) -> None:
    tasks = [task(n, f"https://a.example/{n}", note="x" * 15_000) for n in range(100)]
    before = set(multiprocessing.active_children())
    with serving(tmp_path) as server, ThreadPoolExecutor(1) as beside:
        assert all(server.predict(*tasks).json()["results"])
        [reader] = set(multiprocessing.active_children()) - before
        until(lambda: num_waiting(server) == 0, "the end of the first list")
        with stopped(reader.pid):
            bulk = beside.submit(server.predict, *(task(n, note="x" * 15_000) for n in range(100, 200)))
            assert [num_waiting(server) for _ in range(20)] == [0] * 20
            assert not bulk.done()
        results = strict_json(bulk.result().text)["results"]
        assert len(results) == 100
        assert all(result["result"] for result in results)
