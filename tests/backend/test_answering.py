"""A picture is asked about once at a time, whoever asks, and the answer is any task's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import astuple, replace

import pytest

from backend.engine.api import EngineStatus
from backend.engine.messages import Finished, GenerateRequest
from backend.errors import EngineNotReady, GenerationFailed, ImageError
from backend.metrics import Metrics
from backend.predict.options import ProjectOptions
from backend.predict.predictor import Answered, Answerer, answer_of, prediction_of
from backend.predict.recipe import read_answer, recipe_of
from label_config import parse_label_config
from tests.backend.gate import GateEngine
from tests.backend.serving import ANSWER, CONFIG
from tests.fakes import FakeEngine, FakeFetched, FakeImages
from tests.limits import eventually

RECIPE = recipe_of(parse_label_config(CONFIG), ProjectOptions(), 256)
URL = "https://shop.example/1.jpg"


async def _fetched(url: str = URL) -> FakeFetched:
    return await FakeImages().fetch(url, task_id=1, timeout_s=1)


def _run(engine: FakeEngine, test: Callable[[Answerer], Awaitable[None]]) -> None:
    async def go() -> None:
        await test(Answerer(engine, FakeImages(), Metrics()))

    asyncio.run(go())


async def _ask(answerer: Answerer, url: str = URL) -> Answered:
    return await answerer.answer(RECIPE, await _fetched(url), interactive=False)


def test_those_who_ask_at_the_same_time_share_one_answer() -> None:
    engine = GateEngine()

    async def test(answerer: Answerer) -> None:
        asking = [asyncio.ensure_future(_ask(answerer)) for _ in range(5)]
        other = asyncio.ensure_future(_ask(answerer, "https://shop.example/2.jpg"))
        await eventually(lambda: engine.num_asked == 2)
        engine.open()
        answers = await asyncio.gather(*asking)
        assert len({answer.key for answer in [*answers, await other]}) == 2
        assert engine.num_done == 2

    _run(engine, test)


def test_one_who_leaves_takes_nothing_from_the_others_and_the_last_one_cancels() -> None:
    engine = GateEngine()

    async def test(answerer: Answerer) -> None:
        first, second = (asyncio.ensure_future(_ask(answerer)) for _ in range(2))
        await eventually(lambda: engine.num_asked == 1)
        first.cancel()
        await asyncio.wait([first])
        assert engine.num_cancelled == 0
        second.cancel()
        await asyncio.wait([second])
        await eventually(lambda: engine.num_cancelled == 1)
        engine.open()
        assert (await _ask(answerer)).content

    _run(engine, test)


def test_a_failure_is_told_to_all_and_not_remembered() -> None:
    engine = FakeEngine(ANSWER)
    engine.failure = GenerationFailed("too_long")

    async def test(answerer: Answerer) -> None:
        results = await asyncio.gather(*(_ask(answerer) for _ in range(3)), return_exceptions=True)
        assert [type(result) for result in results] == [GenerationFailed] * 3
        engine.failure = None
        assert (await _ask(answerer)).content

    _run(engine, test)


def test_what_is_stored_is_not_asked_again() -> None:
    engine = FakeEngine(ANSWER)
    stored: dict[str, str] = {}

    async def find(key: str) -> str | None:
        return stored.get(key)

    async def go() -> None:
        answerer = Answerer(engine, FakeImages(), Metrics(), find)
        first = await _ask(answerer)
        stored[first.key] = first.content
        started_again = Answerer(engine, FakeImages(), Metrics(), find)
        assert await _ask(started_again) == first

    asyncio.run(go())
    assert len(engine.requests) == 1


def test_what_is_only_on_its_way_to_the_store_is_not_asked_again() -> None:
    engine = FakeEngine(ANSWER)

    async def test(answerer: Answerer) -> None:
        assert await _ask(answerer) == await _ask(answerer)

    _run(engine, test)
    assert len(engine.requests) == 1


def test_no_more_answers_are_kept_in_memory_than_stated() -> None:
    engine = FakeEngine(ANSWER)

    async def go() -> None:
        answerer = Answerer(engine, FakeImages(), Metrics(), max_recent=2)
        for url in ("a", "b", "c", "c", "a"):
            await _ask(answerer, url)

    asyncio.run(go())
    assert len(engine.requests) == 4


def test_two_tasks_get_the_same_values_under_different_ids() -> None:
    async def test(answerer: Answerer) -> None:
        answer = await _ask(answerer)
        one, other = answer.prediction(1), prediction_of(answer.content, 2)
        assert "needs_review" not in one
        assert one["score"] == answer.score
        for left, right in zip(one["result"], other["result"], strict=True):
            assert left["id"] != right["id"]
            assert left["value"] == right["value"]

    _run(FakeEngine(ANSWER), test)


OPTIONAL = parse_label_config(CONFIG.replace("</View>", """<Rating name="stars" toName="image"/></View>"""))
DOUBTFUL = recipe_of(OPTIONAL, ProjectOptions(review_threshold=1.0), 256)


def test_an_answer_comes_back_from_the_store_as_it_was_given() -> None:
    engine = FakeEngine({**ANSWER, "caption": "看不清", "stars": None})

    async def go() -> None:
        answerer = Answerer(engine, FakeImages(), Metrics())
        stored = await answerer.answer(DOUBTFUL, await _fetched(), interactive=False)
        answer, findings = answer_of(DOUBTFUL, stored.content)
        asked = await engine.generate(engine.requests[0])
        assert (answer, findings) == read_answer(DOUBTFUL, asked)
        assert answer.fields["stars"].value is None
        assert answer.score == stored.score
        assert {finding.code for finding in findings} >= {"uncertain_words", "too_short", "low_confidence"}
        assert not {"findings", "no_region", "needs_review"} & set(stored.prediction(1))

    asyncio.run(go())


def test_a_cut_answer_is_known_as_cut() -> None:
    class Cut(FakeEngine):
        async def generate(self, request: GenerateRequest) -> Finished:
            finished = await super().generate(request)
            return replace(finished, pieces=finished.pieces[:-20], probabilities=finished.probabilities[:-20],
                           finish_reason="length")  # fmt: skip

    async def test(answerer: Answerer) -> None:
        answer, findings = answer_of(RECIPE, (await _ask(answerer)).content)
        assert answer.truncated
        assert findings[0].code == "truncated"

    _run(Cut(ANSWER), test)


def test_reasons_that_an_older_store_did_not_keep_are_found_again() -> None:
    async def go() -> None:
        stored = await Answerer(FakeEngine(ANSWER), FakeImages(), Metrics()).answer(
            DOUBTFUL, await _fetched(), interactive=False
        )
        document = json.loads(stored.content)
        findings = document.pop("findings")
        found = answer_of(DOUBTFUL, json.dumps(document))[1]
        assert [astuple(finding) for finding in found] == [tuple(finding) for finding in findings]

    asyncio.run(go())


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"result": {}}', '{"result": []}', "null"])
def test_what_never_was_an_answer_is_refused(content: str) -> None:
    with pytest.raises(ValueError, match=r"stored answer|Expecting value"):
        prediction_of(content, 1)


def test_a_task_without_an_address_is_named_by_the_key_it_lacks() -> None:
    async def test(answerer: Answerer) -> None:
        with pytest.raises(ImageError, match='"image"'):
            await answerer.fetch(RECIPE, None, 1, 1)

    _run(FakeEngine(ANSWER), test)


def test_nothing_is_asked_of_an_engine_that_is_not_ready() -> None:
    engine = FakeEngine(ANSWER)
    engine.status = EngineStatus("restarting")

    async def test(answerer: Answerer) -> None:
        with pytest.raises(EngineNotReady):
            await _ask(answerer)

    _run(engine, test)
