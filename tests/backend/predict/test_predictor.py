"""A picture is asked about once at a time, whoever asks, and the answer is any task's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from backend.engine.api import EngineStatus
from backend.engine.messages import Finished, GenerateRequest, Picture
from backend.errors import EngineNotReady, GenerationFailed, ImageError
from backend.images import FetchedImage
from backend.metrics import Metrics
from backend.predict.answered import Answered
from backend.predict.options import ProjectOptions
from backend.predict.predictor import Answerer
from backend.predict.recipe import Recipe, read_answer, recipe_of
from label_config.answer import Answer
from label_config.parse import parse_label_config
from label_config.rating import calibrated
from label_config.review import Finding
from tests.backend.gate import GateEngine
from tests.backend.serving import ANSWER, CONFIG
from tests.fakes import FakeEngine, FakeImages
from tests.limits import eventually

RECIPE = recipe_of(parse_label_config(CONFIG), ProjectOptions(), 256)
URL = "https://shop.example/1.jpg"


async def _fetched(url: str = URL) -> FetchedImage:
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
        assert (await _ask(answerer)).answer.fields

    _run(engine, test)


def test_a_failure_is_told_to_all_and_not_remembered() -> None:
    engine = FakeEngine(ANSWER)
    engine.failure = GenerationFailed("too_long")

    async def test(answerer: Answerer) -> None:
        results = await asyncio.gather(*(_ask(answerer) for _ in range(3)), return_exceptions=True)
        assert [type(result) for result in results] == [GenerationFailed] * 3
        engine.failure = None
        assert (await _ask(answerer)).answer.fields

    _run(engine, test)


def test_what_is_stored_is_not_asked_again() -> None:
    engine = FakeEngine(ANSWER)
    stored: dict[str, str] = {}

    async def find(recipe: Recipe, key: str) -> Answered | None:
        return Answered.read(recipe, key, stored[key]) if key in stored else None

    async def go() -> None:
        answerer = Answerer(engine, FakeImages(), Metrics(), find)
        first = await _ask(answerer)
        assert (first.answer, first.findings) == read_answer(
            RECIPE, await engine.generate(engine.requests.pop()), await _fetched()
        )
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


def test_a_cut_answer_is_known_as_cut() -> None:
    class Cut(FakeEngine):
        async def generate(self, request: GenerateRequest) -> Finished:
            finished = await super().generate(request)
            return replace(finished, pieces=finished.pieces[:-20], probabilities=finished.probabilities[:-20],
                           finish_reason="length")  # fmt: skip

    async def test(answerer: Answerer) -> None:
        answered = await _ask(answerer)
        assert answered.answer.truncated
        assert answered.findings[0].code == "truncated"

    _run(Cut(ANSWER), test)


def test_a_task_without_an_address_is_named_by_the_key_it_lacks() -> None:
    async def test(answerer: Answerer) -> None:
        with pytest.raises(ImageError, match=r"\$image"):
            await answerer.fetch(RECIPE, None, 1, 1)

    _run(FakeEngine(ANSWER), test)


def test_nothing_is_asked_of_an_engine_that_is_not_ready() -> None:
    engine = FakeEngine(ANSWER)
    engine.status = EngineStatus("restarting")

    async def test(answerer: Answerer) -> None:
        with pytest.raises(EngineNotReady):
            await _ask(answerer)

    _run(engine, test)


@pytest.mark.parametrize(
    ("size", "scale", "image_scale", "reasons"),
    [
        pytest.param((40, 780), 0.35, 0.35, ["图片过长，细节可能看不清"], id="long, shrunk twice"),
        pytest.param((780, 40), 0.2, 1.0, ["图片过长，细节可能看不清"], id="lying, shrunk when decoded"),
        pytest.param((40, 780), 1.0, 0.5, [], id="long and small"),
        pytest.param((400, 300), 0.3, 0.3, [], id="a camera's picture"),
    ],
)
def test_a_very_long_picture_of_which_little_is_seen_needs_review(
    size: tuple[int, int], scale: float, image_scale: float, reasons: list[str]
) -> None:
    class Engine(FakeEngine):
        async def generate(self, request: GenerateRequest) -> Finished:
            return replace(await super().generate(request), image_scale=image_scale)

    fetched = FetchedImage(Picture(*size, bytes(3 * size[0] * size[1])), scale, sha256="a" * 64)

    async def go() -> None:
        answered = await Answerer(Engine(ANSWER), FakeImages(), Metrics()).answer(RECIPE, fetched, interactive=False)
        assert [finding.reason for finding in answered.findings] == reasons

    asyncio.run(go())


def test_a_changed_rating_costs_no_answer_and_changes_no_label() -> None:
    """In memory, and from what the store kept, whichever rating it was first asked with."""
    engine = FakeEngine(ANSWER)
    stored: dict[str, str] = {}
    options = ProjectOptions(calibration=(("season", 4.0),), review_thresholds=(("category", 1.0),))
    rated_recipe = recipe_of(RECIPE.schema, options, 256)

    async def find(recipe: Recipe, key: str) -> Answered | None:
        return Answered.read(recipe, key, stored[key]) if key in stored else None

    async def go() -> None:
        fetched = await _fetched()
        for first, second in ((RECIPE, rated_recipe), (rated_recipe, RECIPE)):
            for again in (None, find):
                answerer = Answerer(engine, FakeImages(), Metrics(), find)
                told = {first: await answerer.answer(first, fetched, interactive=False)}
                stored[told[first].key] = told[first].content
                if again:
                    answerer = Answerer(engine, FakeImages(), Metrics(), find)
                told[second] = await answerer.answer(second, fetched, interactive=False)
                check(told[RECIPE], told[rated_recipe])
            stored.clear()

    def check(plain: Answered, rated: Answered) -> None:
        assert (plain.key, plain.content) == (rated.key, rated.content)
        assert {n: f.value for n, f in plain.answer.fields.items()} == {
            n: f.value for n, f in rated.answer.fields.items()
        }
        before, after = (one.answer.fields["season"].confidence for one in (plain, rated))
        assert before is not None
        assert after == pytest.approx(calibrated(before, 4.0))
        assert after != before
        assert plain.model_version != rated.model_version
        assert not plain.findings
        assert ("low_confidence", "category") in [(finding.code, finding.field) for finding in rated.findings]

    asyncio.run(go())
    assert len(engine.requests) == 2


def test_that_a_picture_is_very_long_is_still_told_when_it_is_rated_anew() -> None:
    finding = Finding("very_long", "", "图片过长", "very long")
    plain = Answered("k", "garments-nf4-0123456789ab", Answer({}), (finding,))
    rated = plain.rated(recipe_of(RECIPE.schema, ProjectOptions(calibration=(("season", 2.0),)), 256))

    assert "very_long" in [found.code for found in rated.findings]
    assert rated.rated(RECIPE) == plain
