"""The supervised engine process, with a fake in place of the model: every request ends."""

import asyncio
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import NoReturn, cast

import pytest

from backend.engine.options import EngineLimits, EngineOptions
from backend.errors import EngineBusy, EngineDead, EngineNotReady, GenerationFailed
from tests.backend.engine.client_rig import HANG, HANG_S, LIMITS, Clock, request, run, run_with_clock, running
from tests.limits import WAIT_S, eventually


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


@pytest.mark.parametrize(
    ("model", "limits", "told"),
    [
        ("stalls", replace(LIMITS, load_s=0.1, close_s=0.1), "loading stood still at “Downloading the model” (25%)"),
        ("slow", replace(LIMITS, start_s=0.1, close_s=0.1), "most often the card's driver does not answer"),
    ],
)
def test_a_load_that_stands_still_ends_the_engine(model: str, limits: EngineLimits, told: str) -> None:
    async def test() -> None:
        async with running(EngineOptions(model=model), limits) as client:
            with pytest.raises(EngineDead, match=re.escape(told)):
                await client.wait_ready(WAIT_S)

    run(test)


def test_folders_whose_disk_never_answers_are_named_by_their_settings_and_the_card_is_not() -> None:
    async def test(clock: Clock) -> None:
        limits = replace(LIMITS, start_s=HANG_S, close_s=0.1)
        async with running(EngineOptions(model="hangs at folders"), limits) as client:
            await eventually(lambda: client.status.stage == "folders")
            clock.ahead_s += HANG_S + 1
            await eventually(lambda: client.status.state == "failed")
            assert client.status.message.startswith("“Looking at the folders” stood still for ")
            assert "a disk does not answer, that of PRELABEL_QUANTISED_DIR" in client.status.message

    run_with_clock(test)


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


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        ("save", "Saving the 4-bit weights (it stands still: nothing has been written for "),
        ("save", "Does the disk of PRELABEL_QUANTISED_DIR answer"),
        ("quantise", "Quantising to 4 bits (no further tensor has been read whole for "),
    ],
)
def test_a_tensor_may_take_long_and_then_its_disk_is_named(
    caplog: pytest.LogCaptureFixture, stage: str, told: str
) -> None:
    async def test(clock: Clock) -> None:
        limits = replace(LIMITS, stall_s=WAIT_S, tensor_stall_s=2 * WAIT_S, tune_s=HANG_S, load_s=HANG_S, close_s=0.1)
        async with running(EngineOptions(model=f"hangs at {stage}"), limits) as client:
            await eventually(lambda: client.status.stage == stage)
            clock.ahead_s += WAIT_S + 1
            await asyncio.sleep(0)
            assert client.status.stalled_s == 0
            clock.ahead_s += WAIT_S + 40
            await eventually(lambda: client.status.stalled_s > 2 * WAIT_S)

    run_with_clock(test)
    assert told in caplog.text


def test_a_download_that_is_tried_again_says_why_and_when_until_it_goes_on(tmp_path: Path) -> None:
    async def test() -> None:
        goes_on = tmp_path / "goes on"
        async with running(EngineOptions(model="waits", quantised_dir=goes_on)) as client:
            await eventually(lambda: client.status.stage == "download_again")
            assert client.status.left_s == 40.0
            assert client.status.message.endswith("12 h after the last file that came: the connection was lost")
            assert [why.code for why in client.status.why] == ["engine_download_again"]
            goes_on.touch()
            await eventually(lambda: client.status.stage == "download")
            assert (client.status.message, client.status.why) == ("", ())

    run(test)


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


class NoMemory:
    """Where it is to be sent, this process has no memory for it."""

    def __reduce__(self) -> NoReturn:
        raise MemoryError


def test_a_request_that_this_process_has_no_memory_to_send_fails_and_the_engine_serves_on() -> None:
    async def test(clock: Clock) -> None:
        async with running(limits=HANG) as client:
            await client.wait_ready(WAIT_S)
            with pytest.raises(GenerationFailed, match=r"this machine's own memory .* did not suffice"):
                await client.generate(replace(request("hello"), instruction=cast(str, NoMemory())))
            clock.ahead_s += HANG_S + 1
            assert (await client.generate(request("hello"))).pieces == (b"hello",)
            assert client.status.num_restarts == 0

    run_with_clock(test)


def test_a_request_over_its_time_limit_fails() -> None:
    async def test() -> None:
        async with running(limits=replace(LIMITS, request_s=0.2)) as client:
            await client.wait_ready(WAIT_S)
            with pytest.raises(GenerationFailed, match="no answer within"):
                await client.generate(request("hang"))

    run(test)
