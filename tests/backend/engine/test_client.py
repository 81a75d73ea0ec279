"""The supervised engine process, with a fake in place of the model: every request ends, deaths are survived."""

import asyncio
import math
import multiprocessing
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backend.engine.client import EngineClient
from backend.engine.messages import GenerateRequest, Picture
from backend.engine.options import EngineLimits, EngineOptions
from backend.errors import EngineBusy, EngineDead, EngineNotReady, GenerationFailed
from label_config.schema import LabelSchema, RatingField
from tests.backend.engine import fake_process
from tests.limits import RUN_S, TEST_S, WAIT_S, eventually

SCHEMA = LabelSchema((RatingField("stars", "image"),), "image", "image")
LIMITS = EngineLimits(
    load_s=WAIT_S, request_s=WAIT_S, close_s=WAIT_S, hang_s=TEST_S, max_restarts=2, restart_backoff_s=0.01
)
HANG_S = 10 * TEST_S
HANG = replace(LIMITS, request_s=100 * HANG_S, hang_s=HANG_S)


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
    asyncio.run(test())


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose time can be put forward: what waits for a moment of it waits no longer."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


def run_with_clock(test: Callable[[Clock], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=Clock) as runner:
        clock = runner.get_loop()
        assert isinstance(clock, Clock)
        runner.run(test(clock))


def test_a_request_is_answered_once_the_model_is_ready() -> None:
    async def test() -> None:
        async with running() as client:
            ready = await client.wait_ready(WAIT_S)
            finished = await client.generate(request("hello"))
            assert ready.model_name == "fake"
            assert finished.pieces == (b"hello",)
            assert client.status.num_running == 0

    run(test)


def test_a_request_before_the_model_is_ready_is_refused_with_a_time_to_retry() -> None:
    async def test() -> None:
        async with running(EngineOptions(model="slow"), replace(LIMITS, close_s=0.1)) as client:
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
                await client.wait_ready(WAIT_S)
            with pytest.raises(EngineDead, match="no such model"):
                await client.generate(request("hello"))
            assert client.status.state == "failed"
            assert client.status.num_restarts == 0

    run(test)


def test_a_load_that_stands_still_ends_the_engine() -> None:
    async def test() -> None:
        async with running(EngineOptions(model="slow"), replace(LIMITS, load_s=0.1, close_s=0.1)) as client:
            with pytest.raises(EngineDead, match="loading stood still at"):
                await client.wait_ready(WAIT_S)

    run(test)


def test_requests_aboard_a_dying_engine_run_again_after_its_restart(tmp_path: Path) -> None:
    async def test() -> None:
        options = EngineOptions(model="fake", quantised_dir=tmp_path / "died")
        async with running(options) as client:
            await client.wait_ready(WAIT_S)
            tasks = [asyncio.create_task(client.generate(request(text))) for text in ("die once", "other")]
            answers = await asyncio.gather(*tasks)
            assert [a.pieces for a in answers] == [(b"True",), (b"other",)], "the one that was aboard runs alone"
            assert client.status.num_restarts == 1
            assert client.status.state == "ready"

    run(test)


def test_a_request_that_kills_the_engine_twice_is_failed_and_the_engine_serves_on() -> None:
    async def test() -> None:
        async with running() as client:
            await client.wait_ready(WAIT_S)
            with pytest.raises(EngineDead, match="died 2 times"):
                await client.generate(request("die"))
            await client.wait_ready(WAIT_S)
            assert (await client.generate(request("after"))).pieces == (b"after",)

    run(test)


def test_only_what_was_on_the_device_is_charged_with_a_death() -> None:
    async def test() -> None:
        async with running() as client:
            await client.wait_ready(WAIT_S)
            waiting = asyncio.create_task(client.generate(request("waits")))
            with pytest.raises(EngineDead, match="died 2 times"):
                await client.generate(request("die"))
            assert not waiting.done()
            waiting.cancel()

    run(test)


def test_a_silent_engine_with_work_is_ended_and_started_again() -> None:
    async def test(clock: Clock) -> None:
        async with running(limits=HANG) as client:
            await client.wait_ready(WAIT_S)
            stuck = asyncio.create_task(client.generate(request("stuck")))
            for death in (1, 2):
                await eventually(lambda: client.status.num_running, "the request on the device")
                clock.ahead_s += HANG_S + 1
                await eventually(lambda death=death: client.status.num_restarts == death, "the restart")
            with pytest.raises(EngineDead, match="died 2 times"):
                await stuck
            await client.wait_ready(WAIT_S)
            assert (await client.generate(request("after"))).pieces == (b"after",)

    run_with_clock(test)


def test_silence_without_work_and_from_before_a_request_does_not_count_against_the_engine() -> None:
    async def test(clock: Clock) -> None:
        async with running(limits=HANG) as client:
            await client.wait_ready(WAIT_S)
            clock.ahead_s += HANG_S + 1
            await client.generate(request("hello"))
            clock.ahead_s += 0.8 * HANG_S
            waiting = asyncio.create_task(client.generate(request("waits")))
            await eventually(lambda: client.status.num_queued, "the request in the queue")
            clock.ahead_s += 0.8 * HANG_S
            assert (await client.generate(request("hello again"))).pieces == (b"hello again",)
            assert client.status.num_restarts == 0
            assert not waiting.done()
            waiting.cancel()

    run_with_clock(test)


def test_a_restart_loads_the_model_that_was_chosen_first() -> None:
    async def test() -> None:
        async with running(EngineOptions(model="auto")) as client:
            await client.wait_ready(WAIT_S)
            with pytest.raises(EngineDead):
                await client.generate(request("die"))
            assert (await client.wait_ready(WAIT_S)).model_name == "chosen-first"

    run(test)


def test_a_download_from_which_nothing_comes_says_so_and_keeps_no_old_pace(caplog: pytest.LogCaptureFixture) -> None:
    async def test(clock: Clock) -> None:
        async with running(EngineOptions(model="stalls"), replace(LIMITS, stall_s=WAIT_S, load_s=HANG_S)) as client:
            await eventually(lambda: client.status.stage == "download")
            assert (client.status.bytes_per_s, client.status.left_s, client.status.stalled_s) == (2e6, 60.0, 0.0)
            clock.ahead_s += WAIT_S + 40
            await eventually(lambda: client.status.stalled_s > WAIT_S)
            assert (client.status.bytes_per_s, client.status.left_s) == (0.0, None)

    run_with_clock(test)
    assert "Downloading the model (nothing has come for " in caplog.text


def test_a_process_that_cannot_go_on_with_its_graphs_is_followed_by_one_without_them() -> None:
    async def test() -> None:
        async with running(EngineOptions(model="graphs fail")) as client:
            for _ in range(2):
                ready = await client.wait_ready(WAIT_S)
                assert ready.slower[0] == ("graphs", "operation not permitted")
                with pytest.raises(EngineDead):
                    await client.generate(request("die"))
            assert client.status.num_restarts == 2, "only what died is counted"

    run(test)


def test_faults_in_a_row_are_followed_by_processes_without_graphs_and_then_without_kernels() -> None:
    async def test() -> None:
        async with running(limits=replace(LIMITS, max_restarts=5)) as client:
            for parts in ((), (), ("graphs",), ("graphs", "kernels"), ("graphs", "kernels")):
                ready = await client.wait_ready(WAIT_S)
                assert tuple(part for part, _ in ready.slower) == parts
                assert all("70: the device failed" in why for _, why in ready.slower)
                dying = asyncio.create_task(client.generate(request("die")))
                died = client.status.num_restarts + 1
                await eventually(lambda died=died: client.status.num_restarts == died, "the death")
                dying.cancel()

    run(test)


def test_what_fails_again_without_the_part_that_failed_is_a_death() -> None:
    async def test() -> None:
        async with running(EngineOptions(model="graphs fail for ever")) as client:
            with pytest.raises(EngineDead, match=f"died {LIMITS.max_restarts + 1} times in a row"):
                await client.wait_ready(WAIT_S)

    run(test)


@pytest.mark.parametrize(("stage", "part"), [("kernels", "kernels"), ("memory", "kernels"), ("graphs", "graphs")])
def test_a_process_that_crashes_while_a_part_is_tried_out_is_followed_by_one_without_it(stage: str, part: str) -> None:
    async def test() -> None:
        async with running(EngineOptions(model=stage)) as client:
            ready = await client.wait_ready(WAIT_S)
            assert ready.slower == ((part, "the engine process ended with exit code 3"),)
            assert client.status.num_restarts == 0

    run(test)


def test_a_process_that_hangs_while_graphs_are_tried_out_is_followed_by_one_without_them() -> None:
    async def test(clock: Clock) -> None:
        async with running(EngineOptions(model="hangs at graphs"), replace(LIMITS, tune_s=HANG_S)) as client:
            await eventually(lambda: client.status.stage == "graphs", "the hang")
            clock.ahead_s += HANG_S + 1
            await eventually(lambda: client.status.ready, "the next process")
            assert client.status.ready
            [(part, why)] = client.status.ready.slower
            assert (part, "said nothing for" in why) == ("graphs", True)

    run_with_clock(test)


def test_a_load_may_take_long_while_it_moves(tmp_path: Path) -> None:
    async def test(clock: Clock) -> None:
        options = EngineOptions(model="moves", quantised_dir=tmp_path)
        async with running(options, replace(LIMITS, load_s=HANG_S)) as client:
            for number in range(3):
                await eventually(lambda number=number: client.status.fraction == number / 3, "a step")
                clock.ahead_s += 0.8 * HANG_S
                (tmp_path / str(number)).touch()
            assert (await client.wait_ready(math.inf)).model_name == "moves"

    run_with_clock(test)


def test_a_model_that_was_loaded_once_is_tried_again_where_it_cannot_be_loaded_for_a_while(tmp_path: Path) -> None:
    async def test() -> None:
        marker = tmp_path / "refuse"
        options = EngineOptions(model="refused once", quantised_dir=marker)
        async with running(options, replace(LIMITS, max_restarts=3)) as client:
            await client.wait_ready(WAIT_S)
            marker.touch()
            with pytest.raises(EngineDead):
                await client.generate(request("die"))
            await client.wait_ready(WAIT_S)
            assert not marker.exists()

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
        f"    await client.wait_ready({WAIT_S})\n"
        "    print('started')\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=TEST_S, check=False)
    assert done.stdout.strip() == "started", done.stderr


def test_an_engine_that_keeps_dying_is_given_up() -> None:
    async def test() -> None:
        async with running(limits=replace(LIMITS, max_restarts=1)) as client:
            await client.wait_ready(WAIT_S)
            with pytest.raises(EngineDead):
                await client.generate(request("die"))
            with pytest.raises(EngineDead):
                await client.wait_ready(WAIT_S)
            assert client.status.state == "failed"

    run(test)


def test_an_engine_that_is_killed_while_it_loads_says_what_that_may_be() -> None:
    async def test() -> None:
        async with running(EngineOptions(model="killed"), replace(LIMITS, max_restarts=0)) as client:
            with pytest.raises(EngineDead, match=r"exit code -9: it was killed, .*this machine's memory is full"):
                await client.wait_ready(WAIT_S)

    run(test)


def test_a_failure_names_its_kind_and_leaves_the_neighbours_alone() -> None:
    async def test() -> None:
        async with running() as client:
            await client.wait_ready(WAIT_S)
            good = asyncio.create_task(client.generate(request("good")))
            with pytest.raises(GenerationFailed, match="out_of_memory: too big"):
                await client.generate(request("fail"))
            assert (await good).pieces == (b"good",)

    run(test)


def test_a_full_queue_refuses_at_once() -> None:
    async def test() -> None:
        async with running(EngineOptions(model="fake", max_queue=2)) as client:
            await client.wait_ready(WAIT_S)
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
        async with running(limits=replace(LIMITS, request_s=0.2)) as client:
            await client.wait_ready(WAIT_S)
            with pytest.raises(GenerationFailed, match="no answer within"):
                await client.generate(request("hang"))

    run(test)


def test_closing_ends_the_process_and_fails_what_still_waits() -> None:
    async def test() -> None:
        async with running() as client:
            await client.wait_ready(WAIT_S)
            waiting = asyncio.create_task(client.generate(request("hang")))
            await eventually(lambda: client.status.num_running, "the request on the device")
            await client.close()
            with pytest.raises(EngineDead):
                await waiting
            assert client.status.state == "stopped"

    run(test)


def test_a_close_that_is_given_up_leaves_no_process_behind() -> None:
    async def test() -> None:
        client = EngineClient(EngineOptions(model="slow"), replace(LIMITS, close_s=10 * TEST_S), fake_process.main)
        await client.start()
        await eventually(lambda: client.status.stage == "reading", "the beginning of loading")
        closing = asyncio.create_task(client.close())
        await eventually(lambda: client.status.state == "stopped", "the beginning of the end")
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await eventually(lambda: not multiprocessing.active_children(), "the end of the process")

    run(test)


UNGUARDED = """
import asyncio, __main__
from backend.engine.client import EngineClient
from backend.engine.options import EngineLimits, EngineOptions
from tests.backend.engine import fake_process

print("the script runs", flush=True)
marker = object()

async def serve():
    client = EngineClient(EngineOptions(model="fake"), EngineLimits(), fake_process.main)
    await client.start()
    ready = await client.wait_ready({wait_s})
    print("ready:", ready.model_name, flush=True)
    await client.close()

asyncio.run(serve())
print("it is itself again:", __main__.marker is marker, flush=True)
"""


@pytest.mark.parametrize("how", ["as a file", "as a module"])
def test_a_script_without_a_guard_runs_once_and_has_its_engine(tmp_path: Path, how: str) -> None:
    """A spawned process would run it again, up to the point where its server finds its own address in use."""
    (tmp_path / "unguarded.py").write_text(UNGUARDED.format(wait_s=WAIT_S))
    root = Path(__file__).parents[3]
    command = [sys.executable, *(["-m", "unguarded"] if how == "as a module" else [str(tmp_path / "unguarded.py")])]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{tmp_path}"},
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.stdout.splitlines() == ["the script runs", "ready: fake", "it is itself again: True"], done.stderr
