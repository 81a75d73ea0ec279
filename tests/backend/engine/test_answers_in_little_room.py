"""The whole engine in a KV cache that is too small for all: answers stay those of transformers, each request alone.

Instructions are shared, answers grow, the youngest bulk requests are put back and go on later, and steps are mixed.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.engine.kv_blocks import BLOCK_TOKENS
from backend.engine.loop import EngineLoop
from backend.engine.mailbox import Mailbox
from backend.engine.messages import Failed, Finished, FromEngine, Stats, Submit
from backend.engine.preparation import Preparation
from backend.engine.runner import Runner
from backend.engine.scheduler import MAX_PUT_BACK, Scheduler, SchedulerLimits
from benchmarks.generate_baseline import GenerateBaseline
from tests.backend.engine.all_free import assert_all_is_free
from tests.backend.engine.requests import MIXED
from tests.limits import examples
from tests.tiny_model import tiny_model

CONTEXT_TOKENS = 1024
MAX_TURNS = 2000


@pytest.fixture(scope="module")
def one_by_one() -> dict[int, Finished]:
    """The answers of transformers, by request id."""
    baseline = GenerateBaseline(tiny_model(role="reference"), image_tokens=64)
    return {request.request_id: baseline.answer([request])[0] for request in MIXED}


class Engine:
    """The loop with a model, without a process. `num_blocks` is its KV cache."""

    def __init__(
        self, num_blocks: int, num_reserved: int = 0, max_prefill_tokens: int = 300, mixed_from: int = 9
    ) -> None:
        self.num_tokens = num_blocks * BLOCK_TOKENS
        self.runner = Runner(
            tiny_model(), image_tokens=64, context_tokens=CONTEXT_TOKENS, kv_tokens=self.num_tokens, max_slots=8
        )
        limits = SchedulerLimits(8, self.num_tokens, 1, num_reserved * BLOCK_TOKENS, max_prefill_tokens, mixed_from)
        self.scheduler = Scheduler(limits)
        self.mailbox = Mailbox()
        self.preparation = Preparation(self.runner.to_patches, None, 1)
        self.loop = EngineLoop(self.runner, self.mailbox, self._receive, self.scheduler, self.preparation, stats_s=-1.0)
        self.answers: dict[int, Finished] = {}
        self.stats = Stats()

    def _receive(self, message: FromEngine) -> None:
        assert not isinstance(message, Failed), message
        if isinstance(message, Finished):
            self.answers[message.request_id] = message
        elif isinstance(message, Stats):
            self.stats = message

    def run(self, requests: list[Submit], turns_between: list[int]) -> None:
        """Submit `requests` one by one, with so many turns after each, and work until all are answered."""
        for number, (request, num_turns) in enumerate(zip(requests, turns_between, strict=True), 1):
            self.mailbox.put(request)
            for _ in range(num_turns):
                if len(self.answers) < number:  # else a turn waits for a message
                    self.loop.turn()
        for _ in range(MAX_TURNS):
            if len(self.answers) == len(requests):
                break
            self.loop.turn()
        assert len(self.answers) == len(requests), "a request is never answered"
        assert_all_is_free(self.scheduler)

    def close(self) -> None:
        self.preparation.close()
        self.runner.close()


def assert_same(answers: dict[int, Finished], one_by_one: dict[int, Finished]) -> None:
    for request_id, answer in answers.items():
        assert answer.pieces == one_by_one[request_id].pieces
        assert answer.finish_reason == one_by_one[request_id].finish_reason
        assert answer.probabilities == pytest.approx(one_by_one[request_id].probabilities, rel=1e-3, abs=1e-5)


def test_requests_that_are_put_back_give_the_same_answers(one_by_one: dict[int, Finished]) -> None:
    requests = [MIXED[i] for i in (0, 2, 4, 5)]  # with the same instruction, of 35 blocks; each needs up to 8 more
    engine = Engine(num_blocks=46)
    engine.run(requests, [0] * 4)
    assert_same(engine.answers, one_by_one)
    assert 0 < engine.stats.num_put_back <= MAX_PUT_BACK * len(requests)
    engine.close()


def test_requests_that_decode_in_the_prefills_of_others_give_the_same_answers(
    one_by_one: dict[int, Finished],
) -> None:
    engine = Engine(num_blocks=120, max_prefill_tokens=1, mixed_from=1)
    engine.run(MIXED, [0] * len(MIXED))
    assert_same(engine.answers, one_by_one)
    assert engine.stats.num_mixed == len(MIXED) - 1
    engine.close()


@settings(max_examples=examples(5, 100), deadline=None)
@given(data=st.data())
def test_any_order_of_arrival_in_any_room_gives_the_same_answers(
    one_by_one: dict[int, Finished], data: st.DataObject
) -> None:
    requests = [
        replace(request, interactive=data.draw(st.integers(0, 3)) == 0, group=data.draw(st.sampled_from("ab")))
        for request in data.draw(st.permutations(MIXED))
    ]
    turns = data.draw(st.lists(st.integers(0, 12), min_size=len(requests), max_size=len(requests)))
    # the longest needs 43 blocks
    num_blocks, num_reserved = data.draw(st.integers(43, 90)), data.draw(st.integers(0, 43))
    engine = Engine(num_blocks, num_reserved, data.draw(st.integers(1, 300)), data.draw(st.sampled_from([1, 2, 9])))
    engine.run(requests, turns)
    assert_same(engine.answers, one_by_one)
    engine.close()
