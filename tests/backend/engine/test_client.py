"""The supervised engine process, with a fake in place of the model: every request ends, deaths are survived."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from backend.engine.client import EngineClient
from backend.engine.messages import GenerateRequest, Picture
from backend.engine.options import EngineLimits, EngineOptions
from backend.errors import EngineBusy, EngineDead, EngineNotReady, GenerationFailed
from label_config.schema import LabelSchema, RatingField
from tests.backend.engine import fake_process

SCHEMA = LabelSchema((RatingField("stars", "image"),), "image", "image")
LIMITS = EngineLimits(load_s=20, request_s=20, close_s=5, max_restarts=2, restart_backoff_s=0.01)


def request(instruction: str) -> GenerateRequest:
    return GenerateRequest(SCHEMA, instruction, Picture(1, 1, b"\0\0\0"))


@asynccontextmanager
async def running(options: EngineOptions | None = None, limits: EngineLimits = LIMITS) -> AsyncIterator[EngineClient]:
    client = EngineClient(options or EngineOptions(model="fake"), limits, fake_process.main)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


def test_a_request_is_answered_once_the_model_is_ready() -> None:
    async def test() -> None:
        async with running() as client:
            ready = await client.wait_ready(20)
            finished = await client.generate(request("hello"))
            assert ready.model_name == "fake"
            assert finished.pieces == (b"hello",)
            assert client.status.num_running == 0

    run(test)


def test_a_request_before_the_model_is_ready_is_refused_with_a_time_to_retry() -> None:
    async def test() -> None:
        async with running(EngineOptions(model="slow"), EngineLimits(close_s=0.1)) as client:
            with pytest.raises(EngineNotReady) as refused:
                await client.generate(request("hello"))
            assert refused.value.retry_after_s > 0
            with pytest.raises(EngineNotReady, match="still loading"):
                await client.wait_ready(0.01)

    run(test)


def test_a_model_that_cannot_load_is_reported_and_not_started_again() -> None:
    async def test() -> None:
        async with running(EngineOptions(model="broken")) as client:
            with pytest.raises(EngineDead, match="no such model: broken"):
                await client.wait_ready(20)
            with pytest.raises(EngineDead, match="no such model"):
                await client.generate(request("hello"))
            assert client.status.state == "failed"
            assert client.status.num_restarts == 0

    run(test)


def test_loading_over_its_limit_ends_the_engine() -> None:
    async def test() -> None:
        async with running(EngineOptions(model="slow"), EngineLimits(load_s=2, close_s=0.1)) as client:
            with pytest.raises(EngineDead, match="loading took over"):
                await client.wait_ready(20)

    run(test)


def test_requests_aboard_a_dying_engine_run_again_after_its_restart(tmp_path: Path) -> None:
    async def test() -> None:
        options = EngineOptions(model="fake", quantised_dir=tmp_path / "died")
        async with running(options) as client:
            await client.wait_ready(20)
            tasks = [asyncio.create_task(client.generate(request(text))) for text in ("die once", "other")]
            answers = await asyncio.gather(*tasks)
            assert [a.pieces for a in answers] == [(b"True",), (b"other",)], "the one that was aboard runs alone"
            assert client.status.num_restarts == 1
            assert client.status.state == "ready"

    run(test)


def test_a_request_that_kills_the_engine_twice_is_failed_and_the_engine_serves_on() -> None:
    async def test() -> None:
        async with running() as client:
            await client.wait_ready(20)
            with pytest.raises(EngineDead, match="died 2 times"):
                await client.generate(request("die"))
            await client.wait_ready(20)
            assert (await client.generate(request("after"))).pieces == (b"after",)

    run(test)


def test_only_what_was_on_the_device_is_charged_with_a_death() -> None:
    async def test() -> None:
        async with running() as client:
            await client.wait_ready(20)
            waiting = asyncio.create_task(client.generate(request("waits")))
            with pytest.raises(EngineDead, match="died 2 times"):
                await client.generate(request("die"))
            assert not waiting.done()
            waiting.cancel()

    run(test)


def test_a_silent_engine_with_work_is_ended_and_started_again() -> None:
    async def test() -> None:
        limits = EngineLimits(hang_s=0.3, close_s=5, restart_backoff_s=0.01)
        async with running(limits=limits) as client:
            await client.wait_ready(20)
            await asyncio.sleep(0.4)  # silence without work is no hang
            assert client.status.state == "ready"
            with pytest.raises(EngineDead, match="died 2 times"):
                await client.generate(request("stuck"))
            await client.wait_ready(20)
            assert client.status.num_restarts == 2

    run(test)


def test_silence_from_before_a_request_does_not_count_against_the_engine() -> None:
    async def test() -> None:
        async with running(limits=EngineLimits(hang_s=1.0, close_s=5, restart_backoff_s=0.01)) as client:
            await client.wait_ready(20)
            await asyncio.sleep(0.8)
            assert (await client.generate(request("slowly"))).pieces == (b"slowly",)
            assert client.status.num_restarts == 0

    run(test)


def test_a_restart_loads_the_model_that_was_chosen_first() -> None:
    async def test() -> None:
        async with running(EngineOptions(model="auto")) as client:
            await client.wait_ready(20)
            with pytest.raises(EngineDead):
                await client.generate(request("die"))
            assert (await client.wait_ready(20)).model_name == "chosen-first"

    run(test)


def test_the_interpreter_ends_while_an_engine_that_nobody_closed_waits() -> None:
    code = (
        "import asyncio\n"
        "from backend.engine.client import EngineClient\n"
        "from backend.engine.options import EngineOptions\n"
        "from tests.backend.engine import fake_process\n"
        "async def main():\n"
        "    client = EngineClient(EngineOptions(model='fake'), entry=fake_process.main)\n"
        "    await client.start()\n"
        "    await client.wait_ready(30)\n"
        "    print('started')\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "started", done.stderr


def test_an_engine_that_keeps_dying_is_given_up() -> None:
    async def test() -> None:
        limits = EngineLimits(close_s=5, max_restarts=1, restart_backoff_s=0.01)
        async with running(limits=limits) as client:
            await client.wait_ready(20)
            with pytest.raises(EngineDead):
                await client.generate(request("die"))
            with pytest.raises(EngineDead):
                await client.wait_ready(20)
            assert client.status.state == "failed"

    run(test)


def test_a_failure_names_its_kind_and_leaves_the_neighbours_alone() -> None:
    async def test() -> None:
        async with running() as client:
            await client.wait_ready(20)
            good = asyncio.create_task(client.generate(request("good")))
            with pytest.raises(GenerationFailed, match="out_of_memory: too big"):
                await client.generate(request("fail"))
            assert (await good).pieces == (b"good",)

    run(test)


def test_a_full_queue_refuses_at_once() -> None:
    async def test() -> None:
        async with running(EngineOptions(model="fake", max_queue=2)) as client:
            await client.wait_ready(20)
            hanging = [asyncio.create_task(client.generate(request("hang"))) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(EngineBusy):
                await client.generate(request("one too many"))
            for task in hanging:
                task.cancel()
            await asyncio.gather(*hanging, return_exceptions=True)
            assert client.status.num_running == 0

    run(test)


def test_a_request_over_its_time_limit_fails() -> None:
    async def test() -> None:
        async with running(limits=EngineLimits(request_s=0.2, close_s=5)) as client:
            await client.wait_ready(20)
            with pytest.raises(GenerationFailed, match="no answer within"):
                await client.generate(request("hang"))

    run(test)


def test_closing_ends_the_process_and_fails_what_still_waits() -> None:
    async def test() -> None:
        async with running() as client:
            await client.wait_ready(20)
            waiting = asyncio.create_task(client.generate(request("hang")))
            await asyncio.sleep(0.05)
            await client.close()
            with pytest.raises(EngineDead):
                await waiting
            assert client.status.state == "stopped"

    run(test)


def test_a_close_that_is_given_up_leaves_no_process_behind() -> None:
    async def test() -> None:
        client = EngineClient(EngineOptions(model="slow"), EngineLimits(close_s=50), fake_process.main)
        await client.start()
        while client.status.stage != "reading":
            await asyncio.sleep(0.01)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.close()
        async with asyncio.timeout(20):
            while client._process.exitcode is None:  # the thread that ends it may be the one that sees its end
                await asyncio.sleep(0.01)
        assert client._process.exitcode == -signal.SIGKILL

    run(test)
