"""Many engines seen as one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backend.engine.api import EngineState, EngineStatus
from backend.engine.messages import Ready, Stats
from backend.ray.board import FRESH_S, GIVEN_UP_S, Board
from backend.ray.wire import Report

READY = Ready("garments", "nf4", "cuda:0", 17.0, 40.0, weights_id="w1", max_slots=48, kv_tokens=1_000)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(clock: Clock) -> Board:
    return Board(clock)


def report(replica: str, state: EngineState = "ready", **status: object) -> Report:
    ready = READY if state == "ready" else None
    return Report(replica, f"machine-{replica}, process 1", replace(EngineStatus(state, ready=ready), **status))


def test_before_any_replica_is_heard_it_waits_for_one(board: Board) -> None:
    assert (board.status.state, board.status.stage) == ("loading", "replica")


def test_figures_of_all_replicas_are_added_up(board: Board) -> None:
    hot = (("slow_hot", "91 °C"),)
    stats = Stats(num_finished=10, num_steps=100, prefill_s=1.5, memory_gib=20.0, slower=hot)
    board.note(report("a", stats=stats, num_queued=3, num_running=4, num_restarts=1))
    board.note(report("b", stats=replace(stats, memory_gib=21.0), num_queued=1, num_running=2))
    status = board.status
    assert (status.state, status.num_queued, status.num_running, status.num_restarts) == ("ready", 4, 6, 1)
    assert status.stats == Stats(num_finished=20, num_steps=200, prefill_s=3.0, memory_gib=21.0, slower=hot)
    assert status.ready == replace(READY, device="2 x cuda:0", max_slots=96, kv_tokens=2_000)


def test_what_makes_any_replica_slower_is_told_once(board: Board) -> None:
    graphs, linears = ("slow_graphs", "not permitted"), ("slow_linears", "off by 0.98 of the norm")
    for replica, slower in (("a", ()), ("b", (graphs,)), ("c", (graphs, linears))):
        board.note(report(replica, ready=replace(READY, slower=slower)))
    ready = board.status.ready
    assert ready is not None
    assert ready.slower == (graphs, linears)


def test_a_replica_that_comes_later_with_another_model_stands_for_no_answer_of_the_first(
    board: Board, clock: Clock
) -> None:
    board.note(report("a"))
    assert board.status.state == "ready"
    clock.now += FRESH_S + 1
    board.note(report("b", ready=replace(READY, weights_id="w2")))
    assert board.status.state == "failed"
    assert "then garments (nf4, w1), now garments (nf4, w2)" in board.status.message
    clock.now += FRESH_S + 1
    board.note(report("c"))
    assert board.status.state == "ready"


def test_one_replica_that_is_ready_is_enough(board: Board) -> None:
    board.note(report("a", "loading", stage="weights", fraction=0.5))
    board.note(report("b"))
    board.note(report("c", "failed", message="no memory"))
    assert board.status.state == "ready"
    assert board.status.ready == READY


def test_replicas_that_do_not_serve_are_told_as_long_as_they_are_missing(clock: Clock) -> None:
    board = Board(clock, num_wanted=2)
    board.note(report("a"))
    board.note(report("b", "loading", stage="weights", fraction=0.5))
    assert board.status.ready == replace(READY, slower=(("slow_replicas", "1 / 2"),))
    board.note(report("b", "loading", stage="card_again", message="others hold the card"))
    waits = "1 / 2; machine-b, process 1: others hold the card"
    assert board.status.ready == replace(READY, slower=(("slow_replicas", waits),))
    board.note(report("b", "failed", message="no memory"))
    assert board.status.ready == replace(READY, slower=(("slow_replicas", "1 / 2; machine-b, process 1: no memory"),))
    board.note(report("b"))
    assert board.status.ready
    assert board.status.ready.slower == ()
    clock.now += FRESH_S + 1
    board.note(report("a"))
    assert board.status.ready.slower == (("slow_replicas", "1 / 2"),), "of another time, not the failure of then"


def test_while_all_load_it_is_told_how_far_the_first_one_is(board: Board) -> None:
    board.note(report("a", "loading", stage="weights", fraction=0.25))
    board.note(report("b", "loading", stage="kernels", fraction=0.75))
    assert (board.status.state, board.status.stage, board.status.fraction) == ("loading", "kernels", 0.75)


def test_a_silent_replica_is_gone_and_counts_as_a_restart(board: Board, clock: Clock) -> None:
    board.note(report("a", num_restarts=2))
    board.note(report("b"))
    clock.now += FRESH_S / 2
    board.note(report("b"))
    clock.now += FRESH_S / 2 + 1
    assert board.status.ready == READY
    assert board.status.num_restarts == 3
    clock.now += FRESH_S
    assert (board.status.state, board.status.num_restarts) == ("restarting", 4)
    board.note(report("c"))
    assert (board.status.state, board.status.num_restarts) == ("ready", 4)


def test_a_replica_that_was_told_to_stop_is_no_restart(board: Board, clock: Clock) -> None:
    board.note(report("a"))
    board.note(report("a", "stopped"))
    clock.now += FRESH_S + 1
    assert board.status.num_restarts == 0


def test_replicas_with_different_models_are_a_failure(board: Board) -> None:
    board.note(report("a"))
    board.note(report("b", ready=replace(READY, weights_id="w2")))
    status = board.status
    assert (status.state, status.ready) == ("failed", None)
    assert "garments (nf4, w1) and garments (nf4, w2)" in status.message
    assert "PRELABEL_MODEL" in status.message


def test_a_failure_to_load_is_told_while_ray_tries_again_and_is_final_when_it_has_stopped(
    board: Board, clock: Clock
) -> None:
    board.note(report("a", "failed", message="no such model"))
    assert (board.status.state, board.status.message) == ("failed", "machine-a, process 1: no such model")
    clock.now += FRESH_S + 1
    assert board.status.state == "loading"
    assert "no such model" in board.status.message
    clock.now += GIVEN_UP_S
    assert board.status.state == "failed"
    assert "no such model" in board.status.message


def test_a_replica_whose_engine_is_started_again_says_so(board: Board) -> None:
    board.note(report("a", "restarting", message="the engine process ended with exit code -9", num_restarts=1))
    assert (board.status.state, board.status.num_restarts) == ("restarting", 1)
    assert "exit code -9" in board.status.message
