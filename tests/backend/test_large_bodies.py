"""Large bodies are parsed in another process, so that /health is answered meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from backend.errors import BadRequest, EngineBusy
from backend.http.parser import MAX_PLAIN_BYTES, BodyParser
from backend.http.requests import PredictBody, read_predict
from tests.backend.serving import ANSWER, predict_body, serving, strict_json, task
from tests.fakes import FakeEngine

LARGE = MAX_PLAIN_BYTES + 1


@contextmanager
def parsing() -> Iterator[BodyParser]:
    parser = BodyParser()
    yield parser
    parser.close()


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
                await parser.run(LARGE, os._exit, 1)
            assert await parser.run(LARGE, os.getpid) != os.getpid()

    asyncio.run(run())


def test_the_parser_process_ends_with_a_parent_that_was_killed() -> None:
    code = "import os; from backend.http.parser import *; p = BodyParser(); p.warm_up(); p._pool.submit(int).result();"
    command = [sys.executable, "-c", code + "os.kill(os.getpid(), 9)"]
    # The pipe for the output is open until the last process that holds it has ended.
    assert subprocess.run(command, stdout=subprocess.PIPE, timeout=60).returncode == -9


def test_health_is_answered_while_a_large_list_is_read_and_every_task_is_accounted_for(tmp_path: Path) -> None:
    tasks = [task(n, f"https://a.example/{n}", note="x" * 1_000) for n in range(1_500)]
    with serving(tmp_path, FakeEngine(ANSWER)) as server:
        replies: list[httpx.Response] = []
        body = predict_body(*tasks)
        bulk = threading.Thread(
            target=lambda: replies.append(httpx.post(server.url + "/predict", json=body, trust_env=False, timeout=60))
        )
        bulk.start()
        num_answered = 0
        while bulk.is_alive():
            assert server.client.get("/health").status_code == 200
            num_answered += 1
        bulk.join()
        results = strict_json(replies[0].text)["results"]
        assert len(results) == len(tasks)
        assert all(result["result"] for result in results)
        assert num_answered > 3
