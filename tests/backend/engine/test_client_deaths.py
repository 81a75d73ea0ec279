"""An engine process that dies or falls silent is followed by another, perhaps without what it died of."""

import asyncio
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from backend.engine.child import leave
from backend.engine.client import EngineClient
from backend.engine.messages import Finished, Picture
from backend.engine.options import EngineOptions
from backend.errors import EngineDead
from backend.processes import Process
from model_loader.patience import MOST_S
from tests.backend.engine import fake_process
from tests.backend.engine.client_rig import HANG, HANG_S, LIMITS, Clock, request, run, run_with_clock, running
from tests.limits import WAIT_S, eventually


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
            [(code, said)] = client.status.restarted
            assert (code, said) == ("engine_restarted", "1; the engine process ended with exit code 71")
            assert [one.code for one in client.status.ended_why] == ["engine_ended"]

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


@pytest.mark.parametrize(("device", "num_deaths"), [("cuda:0", 1), ("cpu", 0)])
def test_a_step_may_take_longer_on_a_cpu(device: str, num_deaths: int) -> None:
    async def test(clock: Clock) -> None:
        options = EngineOptions(model="fake", device=device)
        async with running(options, replace(HANG, cpu_hang_s=3 * HANG_S)) as client:
            await client.wait_ready(WAIT_S)
            waiting = asyncio.create_task(client.generate(request("waits")))
            await client.generate(request("hello"))
            clock.ahead_s += HANG_S + 1
            assert (await client.generate(request("hello again"))).pieces == (b"hello again",)
            assert client.status.num_restarts == num_deaths
            waiting.cancel()

    run_with_clock(test)


def test_an_engine_that_is_killed_and_keeps_its_pipe_keeps_nothing_from_the_next_one(tmp_path: Path) -> None:
    async def test(clock: Clock) -> None:
        options = EngineOptions(model="fake", quantised_dir=tmp_path)
        async with running(options, replace(HANG, close_s=0.1)) as client:
            await client.wait_ready(WAIT_S)
            stuck = asyncio.create_task(client.generate(request("keeps its pipe")))
            await eventually(lambda: client.status.num_running, "the request on the device")
            more_than_a_pipe_holds = replace(request("large"), picture=Picture(2_000, 2_000, bytes(12_000_000)))
            large = asyncio.create_task(client.generate(more_than_a_pipe_holds))
            await eventually(lambda: client.status.num_queued, "the request behind it")
            clock.ahead_s += HANG_S + 1
            try:
                async with asyncio.timeout(WAIT_S / 2):  # what keeps the pipe lets it go after WAIT_S by itself
                    answers = await asyncio.gather(stuck, large)
                assert [answer.pieces for answer in answers] == [(b"keeps its pipe",), (b"large",)]
            finally:
                (tmp_path / "let go").touch()

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
            assert (await client.wait_ready(WAIT_S)).card == "asked for auto"
            with pytest.raises(EngineDead):
                await client.generate(request("die"))
            assert (await client.wait_ready(WAIT_S)).card == "asked for chosen-first"

    run(test)


def test_a_process_that_cannot_go_on_with_its_graphs_is_followed_by_one_without_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> None:
        async with running(EngineOptions(model="graphs fail")) as client:
            for _ in range(2):
                ready = await client.wait_ready(WAIT_S)
                assert ready.slower[0] == ("slow_graphs", "operation not permitted")
                assert "slower than it should be: decode steps run without CUDA graphs" in caplog.text
                caplog.clear()
                with pytest.raises(EngineDead):
                    await client.generate(request("die"))
            assert client.status.num_restarts == 2, "only what died is counted"

    run(test)


@pytest.mark.parametrize(
    ("dies", "told"),
    [("die", "70: the device failed"), ("a library ends it", "1: a library ended it, as bitsandbytes")],
)
def test_faults_in_a_row_are_followed_by_processes_without_graphs_and_then_without_kernels(
    dies: str, told: str
) -> None:
    async def test() -> None:
        async with running(limits=replace(LIMITS, max_restarts=5)) as client:
            for parts in ([], [], ["graphs"], ["graphs", "kernels"], ["graphs", "kernels"]):
                ready = await client.wait_ready(WAIT_S)
                assert [code for code, _ in ready.slower] == [f"slow_{part}" for part in parts]
                assert all(told in why for _, why in ready.slower)
                dying = asyncio.create_task(client.generate(request(dies)))
                died = client.status.num_restarts + 1
                await eventually(lambda died=died: client.status.num_restarts == died, "the death")
                dying.cancel()

    run(test)


@pytest.mark.parametrize(("minutes", "parts"), [(12, ["slow_graphs"]), (61, [])])
def test_faults_between_good_minutes_are_followed_by_a_process_without_graphs_where_they_are_many(
    minutes: int, parts: list[str]
) -> None:
    async def test(clock: Clock) -> None:
        async with running() as client:
            for death in (1, 2, 3):
                ready = await client.wait_ready(WAIT_S)
                assert ready.slower == ()
                clock.ahead_s += 60 * minutes
                dying = asyncio.create_task(client.generate(request("die")))
                await eventually(lambda death=death: client.status.num_restarts == death, "the death")
                dying.cancel()
            ready = await client.wait_ready(WAIT_S)
            assert [code for code, _ in ready.slower] == parts
            assert all("the device failed" in why for _, why in ready.slower)

    run_with_clock(test)


def test_a_process_that_python_ends_before_it_has_begun_is_not_taken_for_a_fault_of_the_card(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> None:
        client = EngineClient(EngineOptions(), replace(LIMITS, max_restarts=3), fake_process.not_imported)
        await client.start()
        with pytest.raises(EngineDead, match=r"code 1 before it had begun: the log has Python's own error"):
            await client.wait_ready(WAIT_S)
        await client.close()

    run(test)
    assert "starts again without" not in caplog.text
    assert "bitsandbytes" not in caplog.text


def test_what_fails_again_without_the_part_that_failed_is_a_death() -> None:
    async def test() -> None:
        async with running(EngineOptions(model="graphs fail for ever")) as client:
            with pytest.raises(EngineDead, match=f"died {LIMITS.max_restarts + 1} times in a row"):
                await client.wait_ready(WAIT_S)

    run(test)


@pytest.mark.parametrize(
    ("stage", "part"), [("save", "copy"), ("kernels", "kernels"), ("memory", "kernels"), ("graphs", "graphs")]
)
def test_a_process_that_crashes_while_a_part_is_tried_out_is_followed_by_one_without_it(stage: str, part: str) -> None:
    async def test() -> None:
        async with running(EngineOptions(model=stage)) as client:
            ready = await client.wait_ready(WAIT_S)
            assert ready.slower == ((f"slow_{part}", "the engine process ended with exit code 3"),)
            assert client.status.num_restarts == 0

    run(test)


@pytest.mark.parametrize(("stage", "part"), [("save", "copy"), ("graphs", "graphs")])
def test_a_process_that_hangs_while_a_part_is_tried_out_is_followed_by_one_without_it(stage: str, part: str) -> None:
    async def test(clock: Clock) -> None:
        async with running(EngineOptions(model=f"hangs at {stage}"), replace(LIMITS, tune_s=HANG_S)) as client:
            await eventually(lambda: client.status.stage == stage, "the hang")
            clock.ahead_s += HANG_S + 1
            await eventually(lambda: client.status.ready, "the next process")
            assert client.status.ready
            [(code, why)] = client.status.ready.slower
            assert (code, "said nothing for" in why) == (f"slow_{part}", True)

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


@pytest.mark.parametrize(
    ("code", "when"),
    [
        ("memory_taken", "at the first start"),
        ("card_busy", "at the first start"),
        ("load_card_held", "at the first start"),
        ("card_fabric", "at the first start"),
        ("memory_taken", "after a fault"),
    ],
)
def test_a_card_that_other_programs_hold_is_waited_for_and_told(tmp_path: Path, code: str, when: str) -> None:
    async def test(clock: Clock) -> None:
        marker = tmp_path / "others hold the card"
        options = EngineOptions(model=code, quantised_dir=marker)
        waiting: list[asyncio.Task[Finished]] = []
        if when == "at the first start":
            marker.touch()
        async with running(options, replace(LIMITS, max_restarts=1)) as client:
            if when == "after a fault":
                await client.wait_ready(WAIT_S)
                marker.touch()
                dying = asyncio.create_task(client.generate(request("die")))
                waiting.append(asyncio.create_task(client.generate(request("waited"))))
                await eventually(lambda: client.status.num_restarts, "the death")
                dying.cancel()
            for _ in range(2):
                await eventually(lambda: client.status.left_s, "the wait")
                assert client.status.stage == "card_again"
                assert client.status.message.endswith("for 12 h of waiting at most: others hold the card")
                assert [why.code for why in client.status.why] == ["engine_card_again", code]
                clock.ahead_s += MOST_S + 1
                await eventually(lambda: not client.status.left_s, "the next try")
            marker.unlink()
            clock.ahead_s += MOST_S + 1
            await eventually(lambda: client.status.state == "ready", "the try after it")
            assert [(await answer).pieces for answer in waiting] == [(b"waited",)] * len(waiting)

    run_with_clock(test)


def test_a_card_that_others_never_leave_is_given_up_after_a_while(tmp_path: Path) -> None:
    async def test() -> None:
        options = EngineOptions(model="memory_taken", quantised_dir=tmp_path, patience_s=0.0)
        async with running(options) as client:
            with pytest.raises(EngineDead, match="could not be loaded: others hold the card"):
                await client.wait_ready(WAIT_S)

    run(test)


def test_what_lasts_between_two_waits_for_a_card_is_not_counted(tmp_path: Path) -> None:
    """As a download of hours."""

    async def test(clock: Clock) -> None:
        async with running(EngineOptions(model="card_busy", quantised_dir=tmp_path, patience_s=60.0)) as client:
            for _ in range(3):  # of 5, 10 and 20 s
                await eventually(lambda: client.status.left_s, "the wait")
                clock.ahead_s += 3600
                await eventually(lambda: not client.status.left_s, "the next try")
            with pytest.raises(EngineDead, match="could not be loaded: others hold the card"):
                await client.wait_ready(WAIT_S)

    run_with_clock(test)


def test_an_engine_that_a_driver_does_not_let_go_is_named_beside_other_programs(tmp_path: Path) -> None:
    async def test() -> None:
        killed = SimpleNamespace(exitcode=None)
        leave(cast(Process, killed))
        try:
            async with running(EngineOptions(model="memory_taken", quantised_dir=tmp_path)) as client:
                await eventually(lambda: client.status.left_s, "the wait")
                assert [why.code for why in client.status.why] == ["engine_left", "engine_card_again", "memory_taken"]
                assert client.status.message.startswith("an earlier engine process was killed, and the driver")
        finally:
            killed.exitcode = -signal.SIGKILL  # of which later tests hear nothing

    run(test)


def test_a_card_that_faults_at_the_first_start_is_tried_again(tmp_path: Path) -> None:
    async def test() -> None:
        marker = tmp_path / "fault"
        marker.touch()
        async with running(EngineOptions(model="faults once", quantised_dir=marker)) as client:
            await client.wait_ready(WAIT_S)
            assert client.status.num_restarts == 1

    run(test)


def test_a_restart_that_has_another_model_answers_nothing_under_the_first_ones_name(tmp_path: Path) -> None:
    async def test() -> None:
        weights = tmp_path / "weights"
        weights.write_text("aaaa")
        async with running(EngineOptions(model="in a file", quantised_dir=weights)) as client:
            await client.wait_ready(WAIT_S)
            weights.write_text("bbbb")
            waiting = [asyncio.create_task(client.generate(request(text))) for text in ("waits", "die")]
            for answer in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(answer, EngineDead)
            await eventually(lambda: client.status.state == "failed", "the end")
            assert "then in a file (nf4, aaaa), now in a file (nf4, bbbb)" in client.status.message
            with pytest.raises(EngineDead, match="start prelabel again"):
                await client.generate(request("hello"))

    run(test)


def test_a_process_that_hangs_after_a_fault_is_followed_by_another(tmp_path: Path) -> None:
    async def test(clock: Clock) -> None:
        marker = tmp_path / "hang"
        options = EngineOptions(model="hangs once", quantised_dir=marker)
        async with running(options, replace(LIMITS, start_s=HANG_S, max_restarts=3)) as client:
            await client.wait_ready(WAIT_S)
            marker.touch()
            dying = asyncio.create_task(client.generate(request("die")))
            await eventually(lambda: not marker.exists(), "the hang")
            dying.cancel()
            await eventually(lambda: client.status.stage == "reading", "what it says before")
            clock.ahead_s += HANG_S + 1
            await eventually(lambda: client.status.num_restarts == 2, "the end of the hang")
            assert "most often the card's driver does not answer" in client.status.message
            await eventually(lambda: client.status.state == "ready", "the process after it")
            assert client.status.slower == (), "no part of ours was at work in the process that hung"

    run_with_clock(test)


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


@pytest.mark.parametrize(
    ("killed_by", "told"),
    [
        (signal.SIGKILL, "-9: it was killed, .*this machine's memory is full"),
        (signal.SIGSEGV, "-11: the log says where"),
        (signal.SIGBUS, "-7: a file that it was reading was cut short, or its disk failed"),
    ],
)
def test_an_engine_that_is_killed_while_it_loads_says_at_what_and_what_that_may_be(
    killed_by: signal.Signals, told: str
) -> None:
    async def test() -> None:
        async with running(EngineOptions(model=killed_by.name), replace(LIMITS, max_restarts=0)) as client:
            with pytest.raises(EngineDead, match=f"at “Quantising to 4 bits”: the engine process .*exit code {told}"):
                await client.wait_ready(WAIT_S)

    run(test)
