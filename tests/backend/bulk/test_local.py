"""The annotator of this process: real picture files, a fake engine, a real store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from backend.bulk.answers import MAX_REMEMBERED, Answers
from backend.bulk.items import Found, Item
from backend.bulk.local import LocalAnnotator
from backend.bulk.outcomes import FailedItem, Outcome, Record
from backend.engine.api import EngineStatus
from backend.engine.messages import Finished, GenerateRequest
from backend.errors import EngineBusy, EngineDead, EngineNotReady, GenerationFailed
from backend.images import ImageFetcher, ImagePolicy
from backend.predict.answered import Answered
from backend.predict.options import ProjectOptions
from backend.predict.recipe import recipe_of
from backend.store.serving import FILE_NAME, open_store
from label_config.answer import Answer, FieldAnswer
from tests.backend.bulk.given import SCHEMA, many_pictures, pictures
from tests.backend.serving import ANSWER
from tests.fakes import READY, FakeEngine

RECIPE = recipe_of(SCHEMA, ProjectOptions(), 256)


def _item(path: Path) -> Item:
    return Item(path.stem, Found(str(path), path.stem, is_file=True))


def _run(engine: FakeEngine, test: Callable[[LocalAnnotator], Awaitable[None]], answers: Answers | None = None) -> None:
    async def go() -> None:
        images, chosen = ImageFetcher(ImagePolicy()), answers or Answers(None)
        chosen.start()
        try:
            await test(LocalAnnotator(engine, images, RECIPE, RECIPE.version(READY), chosen))
        finally:
            await chosen.aclose()
            await images.aclose()

    asyncio.run(go())


async def _all(annotator: LocalAnnotator, folder: Path) -> list[Outcome]:
    return list(await asyncio.gather(*(annotator.annotate(_item(path)) for path in sorted(folder.iterdir()))))


class Failing(FakeEngine):
    """Raises `errors` one after the other, then answers."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__(ANSWER)
        self.errors = list(errors)

    async def generate(self, request: GenerateRequest) -> Finished:
        if self.errors:
            raise self.errors.pop(0)
        return await super().generate(request)


def test_many_pictures_at_once_all_have_their_turn_at_the_disk(tmp_path: Path) -> None:
    folder = many_pictures(tmp_path / "p", 200)

    async def test(annotator: LocalAnnotator) -> None:
        outcomes = await _all(annotator, folder)
        assert all(isinstance(outcome, Record) for outcome in outcomes)

    _run(FakeEngine(ANSWER), test)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (GenerationFailed("too_long"), "generation_failed"),
        (EngineDead("two engines died of it"), "engine_dead"),
        (ZeroDivisionError(), "internal"),
    ],
    ids=["the engine refuses it", "engines die of it", "a bug"],
)
def test_one_picture_s_trouble_is_its_own(tmp_path: Path, error: Exception, reason: str) -> None:
    folder = many_pictures(tmp_path / "p", 2)

    async def test(annotator: LocalAnnotator) -> None:
        first = await annotator.annotate(_item(folder / "0000.png"))
        assert isinstance(first, FailedItem)
        assert first.reason == reason
        assert isinstance(await annotator.annotate(_item(folder / "0001.png")), Record)

    _run(Failing(error), test)


def test_a_busy_engine_and_one_that_is_started_again_are_waited_for(tmp_path: Path) -> None:
    folder = many_pictures(tmp_path / "p", 1)

    async def test(annotator: LocalAnnotator) -> None:
        assert isinstance(await annotator.annotate(_item(folder / "0000.png")), Record)

    _run(Failing(EngineBusy("full"), EngineNotReady("it is restarting"), EngineBusy("full")), test)


def test_an_engine_that_is_gone_for_good_concerns_every_picture(tmp_path: Path) -> None:
    folder = many_pictures(tmp_path / "p", 1)
    engine = Failing(EngineDead("gone"))
    engine.status = replace(engine.status, state="failed")

    async def test(annotator: LocalAnnotator) -> None:
        with pytest.raises(EngineDead):
            await annotator.annotate(_item(folder / "0000.png"))

    _run(engine, test)


def test_an_engine_that_fails_while_it_is_waited_for_ends_the_wait(tmp_path: Path) -> None:
    folder = many_pictures(tmp_path / "p", 1)
    engine = Failing(EngineNotReady("it is restarting"))
    engine.status = EngineStatus("failed", ready=None)

    async def test(annotator: LocalAnnotator) -> None:
        with pytest.raises(EngineDead):
            await annotator.annotate(_item(folder / "0000.png"))

    _run(engine, test)


def test_a_task_without_a_picture_fails_as_it_does_on_the_server() -> None:
    async def test(annotator: LocalAnnotator) -> None:
        outcome = await annotator.annotate(Item("task-3", Found("", "task-3", is_file=False, task_id=3)))
        assert outcome == FailedItem(
            {
                "image_id": "task-3",
                "image": "",
                "reason": "image_missing",
                "message": "the task's data has no text for $image",
                "task_id": 3,
            }
        )

    _run(FakeEngine(ANSWER), test)


def test_an_address_of_a_private_network_is_refused_as_on_the_server() -> None:
    async def test(annotator: LocalAnnotator) -> None:
        outcome = await annotator.annotate(Item("x", Found("http://127.0.0.1:1/x.png", "x", is_file=False)))
        assert isinstance(outcome, FailedItem)
        assert outcome.reason == "image_private_address"

    _run(FakeEngine(ANSWER), test)


def test_what_a_server_answered_is_taken_from_its_store_and_the_server_is_not_disturbed(tmp_path: Path) -> None:
    folder, data = pictures(tmp_path / "p", ["a.png"]), tmp_path / "data"
    data.mkdir()
    with open_store(data, 1.0) as serving:

        async def test(annotator: LocalAnnotator) -> None:
            (outcome,) = await _all(annotator, folder)
            assert isinstance(outcome, Record)
            again = await annotator.annotate(_item(folder / "a.png"))
            assert isinstance(again, Record)
            assert (outcome.line, again.reused) == (again.line, True)

        engine = FakeEngine(ANSWER)
        _run(engine, test, Answers.open(data, RECIPE.version(READY)))
        assert len(engine.requests) == 1
        idle = FakeEngine(ANSWER)

        async def second(annotator: LocalAnnotator) -> None:
            (outcome,) = await _all(annotator, folder)
            assert isinstance(outcome, Record)
            assert outcome.reused

        _run(idle, second, Answers.open(data, RECIPE.version(READY)))
        assert idle.requests == []
        assert serving.summary() == []


def test_a_store_that_cannot_be_used_is_left_alone_and_the_run_goes_on(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / FILE_NAME).write_bytes(b"this is no database" * 1_000)
    before = (data / FILE_NAME).read_bytes()
    folder = pictures(tmp_path / "p", ["a.png"])

    async def test(annotator: LocalAnnotator) -> None:
        (outcome,) = await _all(annotator, folder)
        assert isinstance(outcome, Record)

    _run(FakeEngine(ANSWER), test, Answers.open(data, RECIPE.version(READY)))
    assert (data / FILE_NAME).read_bytes() == before
    assert [path.name for path in data.iterdir()] == [FILE_NAME]


def _answered(key: str) -> Answered:
    return Answered(key, "v1", Answer({"caption": FieldAnswer("a red coat")}))


def test_the_same_picture_a_thousand_pictures_later_is_taken_from_the_store(tmp_path: Path) -> None:
    async def go() -> None:
        earlier = Answers.open(tmp_path, "v1")
        earlier.start()
        assert not earlier.note(_answered("aa:v1"))
        await earlier.aclose()
        answers = Answers.open(tmp_path, "v1")
        for number in range(MAX_REMEMBERED):
            answers.note(_answered(f"{number}:v1"))
        assert await answers.find(RECIPE, "aa:v1") == _answered("aa:v1")
        assert answers.note(_answered("aa:v1"))
        await answers.aclose()

    asyncio.run(go())


def test_a_store_that_cannot_be_read_is_closed_and_the_run_goes_on(tmp_path: Path) -> None:
    async def note(key: str) -> Answered | None:
        answers = Answers.open(tmp_path, "v1")
        answers.start()
        found = await answers.find(RECIPE, key)
        answers.note(_answered(key))
        assert await answers.find(RECIPE, key) == _answered(key)
        await answers.aclose()
        return found

    asyncio.run(note("a:v1"))
    store = tmp_path / FILE_NAME
    whole = store.read_bytes()
    page = int.from_bytes(whole[16:18], "big")
    store.write_bytes(whole[:page] + b"\xff" * (len(whole) - page))
    assert asyncio.run(note("b:v1")) is None
    store.write_bytes(whole)
    assert asyncio.run(note("a:v1")) == _answered("a:v1")
    assert asyncio.run(note("b:v1")) is None, "it was not kept"


def test_no_more_answers_are_held_than_a_limit() -> None:
    async def go() -> None:
        answers = Answers(None)
        for number in range(MAX_REMEMBERED + 1):
            answers.note(_answered(str(number)))
        for key in (str(MAX_REMEMBERED), "1"):
            assert await answers.find(RECIPE, key) == _answered(key)
        assert await answers.find(RECIPE, "0") is None

    asyncio.run(go())
