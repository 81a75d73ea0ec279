"""Large bodies are parsed in other processes, so that /health and smaller bodies are answered meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from backend.api.parser import MAX_INSTANT_BYTES, MODERATE_BYTES, BodyParser, length_of
from backend.api.requests import NewConfig, PredictBody, read_predict, read_trial
from backend.errors import BadRequest, ConfigRefused, EngineBusy, ImageError, PrelabelError
from backend.predict.options import FieldOptions, ProjectOptions
from backend.predict.trial import Trial, TrialTask
from label_config.schema import LabelSchema
from tests import left_behind
from tests.backend.serving import CONFIG, Server, predict_body, serving, strict_json, task
from tests.limits import RUN_S, WAIT_S, until

MODERATE = MAX_INSTANT_BYTES + 1
LARGE = MODERATE_BYTES + 1


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


def test_a_small_body_is_read_here_and_a_large_one_elsewhere() -> None:
    async def run() -> None:
        with parsing() as parser:
            sizes = (10, MODERATE, LARGE)
            assert len({await parser.run(size, os.getpid) for size in sizes}) == 3
            assert await parser.run(10, os.getpid) == os.getpid()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("data", "num_tasks", "longer"),
    [({"a": "q"}, 1_000, True), ({"a": [0] * 40}, 250, True), ({"image": "x" * 1_000}, 30, False), ({}, 1, False)],
)
def test_a_body_of_many_objects_counts_as_longer_than_it_is(
    data: dict[str, object], num_tasks: int, *, longer: bool
) -> None:
    """Each is a task for which something is done, on the loop if the body is short."""
    body = json.dumps(predict_body(*({"id": number, "data": data} for number in range(num_tasks)))).encode()
    assert len(body) < MAX_INSTANT_BYTES + 8_000
    assert (length_of(body) > MAX_INSTANT_BYTES) is longer
    assert (length_of(body) > len(body)) is longer


def test_a_moderate_body_waits_for_no_large_one_and_a_smaller_one_for_few() -> None:
    async def run() -> None:
        ended: list[int] = []

        async def ask(parser: BodyParser, num_bytes: int) -> None:
            await parser.run(num_bytes, os.getpid)
            ended.append(num_bytes)

        with parsing() as parser:
            moderate, large = await parser.run(MODERATE, os.getpid), await parser.run(LARGE, os.getpid)
            with stopped(large):
                waiting = asyncio.create_task(ask(parser, LARGE))
                await ask(parser, MODERATE)
                assert ended == [MODERATE]
            await waiting
            ended.clear()
            with stopped(moderate):
                sizes = (MODERATE, MODERATE_BYTES, MODERATE_BYTES // 2, MODERATE)
                asked = [asyncio.create_task(ask(parser, num_bytes)) for num_bytes in sizes]
                given_up = asyncio.create_task(ask(parser, MODERATE + 2))
                await asyncio.sleep(0)
                given_up.cancel()
            await asyncio.gather(*asked)
            assert ended == [MODERATE, MODERATE, MODERATE_BYTES // 2, MODERATE_BYTES]

    asyncio.run(run())


def test_one_that_takes_too_long_is_ended_and_the_next_has_its_turn() -> None:
    async def run() -> None:
        with parsing() as parser:
            pid = await parser.run(LARGE, os.getpid)
            os.kill(pid, signal.SIGSTOP)
            endless = asyncio.create_task(parser.run(LARGE, os.getpid))
            next_one = asyncio.create_task(parser.run(LARGE, os.getpid))
            await asyncio.sleep(0)
            endless.cancel()
            os.kill(pid, signal.SIGCONT)
            assert await next_one != pid

    asyncio.run(run())


def test_what_comes_back_holds_ids_and_addresses_only() -> None:
    body = json.dumps(predict_body(*(task(n, f"https://a.example/{n}", note="x" * 500) for n in range(2_000)))).encode()
    assert len(body) > MAX_INSTANT_BYTES

    async def run() -> PredictBody:
        with parsing() as parser:
            with pytest.raises(NewConfig) as new:
                await parser.run(len(body), read_predict, body, 5_000)
            assert new.value.label_config == CONFIG
            first = await parser.run(len(body), read_predict, body, 5_000, "image")
            assert await parser.run(len(body), read_predict, body, 5_000) == first, "its label config is known there"
            return first

    read = asyncio.run(run())
    assert len(read.tasks) == 2_000
    assert read.tasks[7].image_url == "https://a.example/7"


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


class Foreign:
    """Its pickle names what is no value."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch taken-over",)


def says(answer: bytes) -> None:
    """What a process that was taken over may do: answer by itself."""
    os.write(int(sys.argv[2]), len(answer).to_bytes(8, "big") + answer)
    signal.pause()


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(Foreign, id="a function"),
        pytest.param(KeyError, id="another error"),
        pytest.param(Path, id="another value"),
        pytest.param(partial(says, pickle.dumps((7, None))), id="an error that is none"),
        pytest.param(partial(says, pickle.dumps((None, LabelSchema))), id="a class"),
        pytest.param(
            partial(says, b"(Nclabel_config.schema\nLabelSchema\n(N}\x8c\x07captionK\x07stbt."), id="changes one"
        ),
        pytest.param(partial(says, pickle.dumps(7)), id="no pair"),
    ],
)
def test_an_answer_of_anything_but_values_ends_the_process_unmade(
    make: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def run() -> None:
        with parsing() as parser:
            pid = await parser.run(LARGE, os.getpid)
            with pytest.raises(EngineBusy):
                await parser.run(LARGE, make)
            assert await parser.run(LARGE, os.getpid) != pid

    asyncio.run(run())
    assert list(tmp_path.iterdir()) == []


REFUSALS: tuple[Callable[[], PrelabelError], ...] = (
    partial(EngineBusy, "full", retry_after_s=3.0),
    partial(ImageError, "corrupt", "x", retryable=True),
    partial(ConfigRefused, "no"),
)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.func.__name__)
def test_a_refusal_comes_back_with_all_it_says(refusal: Callable[[], PrelabelError]) -> None:
    async def run() -> None:
        with parsing() as parser:
            error = refusal()
            with pytest.raises(type(error)) as caught:
                await parser.run(LARGE, refuse, refusal)
            assert (caught.value.args, vars(caught.value)) == (error.args, vars(error))

    asyncio.run(run())


def refuse(refusal: Callable[[], PrelabelError]) -> None:
    raise refusal()


def test_a_trial_comes_back_as_it_was_read() -> None:
    options = ProjectOptions(fields=(("kind", FieldOptions(instruction="x")),), calibration=(("kind", 1.5),))
    trial = Trial(label_config=CONFIG, options=options, tasks=(TrialTask(id=7, image="x" * 50),))
    body = trial.model_dump_json().encode()

    async def run() -> None:
        with parsing() as parser:
            assert await parser.run(LARGE, read_trial, body) == read_trial(body) == trial

    asyncio.run(run())


def num_waiting(server: Server) -> int:
    return int(server.client.get("/health").json()["work"]["waiting"])


def test_health_is_answered_while_a_large_list_is_read_and_every_task_is_accounted_for(tmp_path: Path) -> None:
    tasks = [task(n, f"https://a.example/{n}", note="x" * 15_000) for n in range(10)]
    with serving(tmp_path) as server, ThreadPoolExecutor(1) as beside:
        assert all(server.predict(*tasks).json()["results"])
        [reader] = left_behind.named("prelabel-reader")
        until(lambda: num_waiting(server) == 0, "the end of the first list")
        with stopped(reader):
            bulk = beside.submit(server.predict, *(task(n, note="x" * 15_000) for n in range(10, 20)))
            assert [num_waiting(server) for _ in range(20)] == [0] * 20
            assert not bulk.done()
        results = strict_json(bulk.result().text)["results"]
        assert len(results) == 10
        assert all(result["result"] for result in results)
