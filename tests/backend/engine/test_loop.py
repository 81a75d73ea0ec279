"""The engine's loop with a fake device: who runs when, what is put back, cancels, and one answer for every request."""

from dataclasses import replace

from backend.engine.messages import (
    Cancel,
    Failed,
    Finished,
    Running,
    Sampling,
    Shutdown,
    Stats,
)
from tests.backend.engine.all_free import assert_all_is_free
from tests.backend.engine.loop_rig import Harness, submit


def test_every_request_is_answered_once_and_announced_before() -> None:
    harness = Harness()
    answers = harness.run(*(submit(i) for i in range(10)))
    assert sorted(answers) == list(range(10))
    for request_id in range(10):
        running = [m for m in harness.sent if isinstance(m, Running) and request_id in m.request_ids]
        assert harness.sent.index(running[0]) < harness.sent.index(answers[request_id])
    assert (harness.scheduler.num_waiting, harness.scheduler.num_running, len(harness.preparation)) == (0, 0, 0)


def test_a_request_joins_while_others_are_in_the_middle_of_theirs() -> None:
    harness = Harness()
    harness.put(submit(1, "endless"))
    harness.loop.turn()
    harness.loop.turn()
    assert isinstance(harness.run(submit(2))[2], Finished)
    assert ("decode", [1, 2]) in harness.runner.steps


def test_an_interactive_request_waits_for_one_step_at_most() -> None:
    harness = Harness()
    harness.put(*(submit(i, "endless") for i in range(9)))
    for _ in range(5):
        harness.loop.turn()
    num_steps = len(harness.runner.steps)
    harness.run(submit(100, interactive=True))
    assert harness.runner.steps[num_steps] == ("prefill", [100])


def test_bulk_work_steps_aside_for_an_interactive_request() -> None:
    harness = Harness()
    harness.put(*(submit(i, "endless") for i in range(3)))
    harness.loop.turn()
    harness.put(submit(100, "endless", interactive=True))
    for _ in range(13):
        harness.loop.turn()
    alone = sum(ids == [100] for kind, ids in harness.runner.steps if kind == "decode")
    together = sum(100 in ids and len(ids) > 1 for kind, ids in harness.runner.steps if kind == "decode")
    assert (alone, together) == (10, 2)


def test_a_request_that_was_aboard_a_death_is_prepared_and_run_alone() -> None:
    harness = Harness()
    harness.run(submit(1), submit(2, alone=True), submit(3), submit(4))
    assert all(len(ids) == 1 for _, ids in harness.runner.steps if 2 in ids)
    announced = [m.request_ids for m in harness.sent if isinstance(m, Running)]
    assert (2,) in announced


def test_nothing_is_begun_beside_a_request_that_runs_alone() -> None:
    harness = Harness()
    harness.put(submit(1, "endless", alone=True), submit(2))
    for _ in range(4):
        harness.loop.turn()
    assert [m.request_ids for m in harness.sent if isinstance(m, Running)] == [(1,)]


def test_a_cancelled_request_frees_its_slot_at_the_next_step() -> None:
    harness = Harness(max_slots=2)
    harness.put(submit(1, "endless"))
    harness.loop.turn()
    assert harness.scheduler.num_running == 1
    harness.put(Cancel(1), submit(2))
    harness.run(submit(3))
    answers = harness.answers
    assert answers[1] == Failed(1, "cancelled", "cancelled while it ran")
    assert isinstance(answers[2], Finished)


def test_a_cancel_in_the_queue_and_a_late_one() -> None:
    harness = Harness(max_slots=2)
    harness.put(submit(1), submit(2), Cancel(2))
    harness.run(submit(3))
    assert harness.answers[2].kind == "cancelled"
    harness.run(Cancel(1), submit(4))
    assert isinstance(harness.answers[1], Finished)


def test_bulk_that_starts_takes_along_those_who_run() -> None:
    harness = Harness(max_slots=8, mixed_from=1, stats_s=-1.0)
    harness.put(submit(1, "endless"), submit(2, "endless"))
    harness.loop.turn()
    harness.run(submit(3))
    assert harness.runner.steps[:2] == [("prefill", [1, 2]), ("mixed", [1, 2, 3])]
    last = [m for m in harness.sent if isinstance(m, Stats)][-1]
    assert (last.num_prefills, last.num_mixed) == (2, 1)


def put_one_back() -> Harness:
    """Requests 1 and 2 ran, then 1 took the blocks of 2."""
    harness = Harness(stats_s=-1.0)
    sampling = Sampling(max_new_tokens=800)
    harness.put(*(replace(submit(number, "endless"), sampling=sampling) for number in (1, 2)))
    harness.loop.turn()
    harness.runner.rows[1].num_after_step = 800
    harness.loop.turn()
    assert harness.runner.steps[-1] == ("decode", [1, 2])
    harness.runner.rows[2].num_after_step = 300
    harness.loop.turn()
    assert harness.runner.steps[-1] == ("decode", [1])
    return harness


def test_a_request_that_was_put_back_goes_on_when_there_is_room() -> None:
    harness = put_one_back()
    answers = harness.run(Cancel(1), submit(3))
    assert isinstance(answers[3], Finished)
    assert ("prefill", [2, 3]) in harness.runner.steps
    assert (harness.runner.rows[2].num_restarts, harness.runner.num_pictures[2]) == (1, 2)
    assert [m for m in harness.sent if isinstance(m, Stats)][-1].num_put_back == 1


def test_a_request_that_was_put_back_waits_again() -> None:
    harness = put_one_back()
    harness.put(Cancel(2))
    harness.loop.turn()
    assert harness.answers[2] == Failed(2, "cancelled", "cancelled while it waited")
    harness.put(Cancel(1))
    harness.loop.turn()
    assert_all_is_free(harness.scheduler)


def test_a_shutdown_ends_the_loop() -> None:
    harness = Harness()
    harness.put(Shutdown())
    assert harness.loop.turn() is False


def test_the_loop_tells_how_it_is_doing() -> None:
    harness = Harness(stats_s=0.0)
    harness.run(submit(1), submit(2))
    last = [m for m in harness.sent if isinstance(m, Stats)][-1]
    assert last.num_running == 2
    assert (last.num_prefills, last.num_steps) == (1, 1)


def test_what_slows_the_card_now_is_told_with_the_figures() -> None:
    hot = (("slow_hot", "91 °C"),)
    harness = Harness(stats_s=-1.0, slowed=lambda: hot)
    harness.run(submit(1))
    assert [m for m in harness.sent if isinstance(m, Stats)][-1].slower == hot
