"""Large bodies are parsed in another process, so that /health is answered meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backend.errors import BadRequest, EngineBusy
from backend.http.bodies import MAX_PLAIN_BYTES
from backend.http.parser import BodyParser
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


def test_health_is_answered_while_ten_thousand_tasks_are_read_and_all_are_accounted_for(tmp_path: Path) -> None:
    tasks = [task(n, f"https://a.example/{n}", note="x" * 1_000) for n in range(10_000)]
    with serving(tmp_path, FakeEngine(ANSWER, delay_s=0.2), predict_deadline_s=3) as server:
        replies: list[str] = []
        bulk = threading.Thread(target=lambda: replies.append(server.predict(*tasks).text))
        bulk.start()
        num_answered = 0
        while bulk.is_alive():
            assert server.client.get("/health", timeout=1).status_code == 200  # Label Studio's own limit
            num_answered += 1
        bulk.join()
        results = strict_json(replies[0])["results"]
        assert len(results) == 10_000
        assert any(results)
        assert num_answered > 3
