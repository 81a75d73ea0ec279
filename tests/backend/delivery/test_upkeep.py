"""What prelabel changes in a project's settings in Label Studio by itself, and what it leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from backend.delivery.upkeep import Known, Upkeep, UpkeepLimits
from backend.label_studio.model_settings import LiveModel, ModelSettings
from backend.label_studio.predictions import CallFailed, CurrentProject
from tests.limits import eventually

P = "12.1700000000"
OLD, NEW = "garments-nf4-000000000001", "garments-nf4-000000000002"
SOON = UpkeepLimits(settle_s=0.0, again_s=0.0)


@dataclass
class Settings:
    """The settings of project 12 as Label Studio has them; `changes` are what was asked of it."""

    model_version: str = ""
    title: str = NEW
    version: str = NEW
    stored: dict[str, int] = field(default_factory=dict)
    others: tuple[LiveModel, ...] = ()
    changes: list[tuple[str, str]] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    num_looks: int = 0

    def current_project(self, number: int) -> CurrentProject | None:
        if self.errors:
            raise self.errors.pop(0)
        return CurrentProject(P, "<View/>", "Summer") if number == 12 else None

    def model_settings(self, number: int) -> ModelSettings:
        self.num_looks += 1
        ours = LiveModel(7, "http://prelabel.internal:9090", self.title, self.version, {"auth_method": "NONE"})
        return ModelSettings(self.model_version, (*self.others, ours), dict(self.stored))

    def rename_model(self, number: int, model: LiveModel, title: str) -> None:
        """As Label Studio: the project follows the title of the backend that it shows."""
        assert model.id == 7
        self.changes.append(("title", title))
        if self.model_version == self.title:
            self.model_version = title
        self.title = title

    def choose_model_version(self, number: int, version: str) -> None:
        self.changes.append(("model_version", version))
        self.model_version = version

    def delete_predictions(self, number: int, version: str) -> int:
        self.changes.append(("delete", version))
        self.model_version = ""
        return self.stored.pop(version)

    def recount(self, number: int) -> None:
        self.changes.append(("recount", str(number)))


@contextmanager
def upkeep(settings: Settings, forgotten: list[str]) -> Iterator[Upkeep]:
    client: Any = settings
    made = Upkeep(lambda: client, lambda project: {OLD}, forgotten.append, limits=SOON, clock=lambda: 5.0)
    made.start()
    yield made


def seen_to(settings: Settings, *, delete: bool = False, project: str = P) -> tuple[Known, list[str]]:
    """What is known after one look, and after a person has pressed the button."""
    forgotten: list[str] = []

    async def run() -> Known:
        with upkeep(settings, forgotten) as made:
            made.look(project, NEW)
            await eventually(lambda: project in made.known and not settings.errors)
            if delete:
                made.delete_older(project)
                await eventually(lambda: forgotten)
                before = settings.num_looks
                made.delivered(project)
                await eventually(lambda: settings.num_looks > before)
            await eventually(lambda: made.known[project].title or project != P)
            await made.stop(1.0)
            return made.known[project]

    return asyncio.run(run()), forgotten


OTHER = LiveModel(3, "http://other.internal", "yolo", "yolo-1", {"auth_method": "NONE"})
MOVES = {
    "connected in the UI": (Settings("我的模型", "我的模型"), [("title", NEW)], "我的模型"),
    "connected in the UI, and nothing chosen": (Settings("", "mine"), [("title", NEW), ("model_version", NEW)], "mine"),
    "the config changed": (Settings(OLD, OLD), [("title", NEW)], OLD),
    "an earlier version of ours chosen by hand": (
        Settings(OLD, "mine"), [("title", NEW), ("model_version", NEW)], OLD,
    ),
    "only the project is behind": (Settings("", NEW), [("model_version", NEW)], NEW),
    "another backend beside it": (Settings(OLD, OLD, others=(OTHER,)), [("title", NEW)], OLD),
}  # fmt: skip


@pytest.mark.parametrize(("settings", "changes", "before"), MOVES.values(), ids=MOVES)
def test_what_was_ours_or_unset_becomes_the_present_version(
    settings: Settings, changes: list[tuple[str, str]], before: str
) -> None:
    known, _ = seen_to(settings)
    assert (settings.changes, settings.model_version, settings.title) == (changes, NEW, NEW)
    assert known.note is not None
    assert (known.title, known.note.kind, known.note.text) == ("Summer", "moved", before)


LEFT = {
    "all is well": (Settings(NEW, NEW), None),
    "another backend's predictions": (Settings("yolo", "mine", others=(OTHER,)), "kept"),
    "predictions that were imported": (Settings("by-hand-v3", "mine"), "kept"),
    "a backend that is not asked yet": (Settings(OLD, OLD, version=OLD), None),
}


@pytest.mark.parametrize(("settings", "note"), LEFT.values(), ids=LEFT)
def test_what_a_person_chose_is_left(settings: Settings, note: str | None) -> None:
    known, _ = seen_to(settings)
    assert settings.changes == []
    assert (known.note.kind if known.note else None) == note


def test_only_earlier_predictions_of_ours_are_deleted_and_only_when_asked() -> None:
    stored = {OLD: 1_200, NEW: 1_000, "by-hand-v3": 5}
    left = Settings(NEW, NEW, stored=dict(stored))
    known, _ = seen_to(left)
    assert (left.stored, known.num_stale) == (stored, 1_200)
    known, forgotten = seen_to(left, delete=True)
    assert (left.stored, left.model_version, forgotten) == ({NEW: 1_000, "by-hand-v3": 5}, NEW, [P])
    assert left.changes.index(("recount", "12")) > left.changes.index(("delete", OLD))
    assert known.note is not None
    assert (known.note.kind, known.note.num, known.num_stale) == ("deleted", 1_200, 0)


def test_a_label_studio_that_is_away_is_asked_again_and_a_refusal_is_told() -> None:
    settings = Settings(OLD, OLD, errors=[CallFailed("It is away.", "unsent")])
    seen_to(settings)
    assert settings.model_version == NEW
    refused = Settings(OLD, OLD, errors=[CallFailed("You may not.", "unauthorized")])

    async def run() -> Known:
        with upkeep(refused, []) as made:
            made.look(P, NEW)
            await eventually(lambda: P in made.known)
            await made.stop(1.0)
            return made.known[P]

    note = asyncio.run(run()).note
    assert note is not None
    assert (note.kind, note.text, refused.changes) == ("failed", "You may not.", [])


@pytest.mark.parametrize("project", ["12.1", "99.1700000000"])
def test_a_project_that_is_not_the_one_that_asked_is_left(project: str) -> None:
    settings = Settings(OLD, OLD)
    known, _ = seen_to(settings, project=project)
    assert (known, settings.changes) == (Known(), [])


def test_a_look_is_not_put_off_for_ever_by_setups_that_follow_one_another() -> None:
    settings = Settings(title=OLD, model_version=OLD)
    now = 0.0

    async def run() -> None:
        nonlocal now
        client: Any = settings
        limits = UpkeepLimits(settle_s=3.0, again_s=60.0)
        made = Upkeep(lambda: client, lambda project: {OLD}, limits=limits, monotonic=lambda: now)
        made.start()
        for now in (0.0, 2.0, 4.0):  # noqa: B007 - the clock
            made.look(P, NEW)
            await asyncio.sleep(0)
        await eventually(lambda: P in made.known)
        await made.stop(1.0)

    asyncio.run(run())
    assert (settings.title, settings.model_version) == (NEW, NEW)


@pytest.mark.parametrize("first", [True, False], ids=["before the others", "after them"])
def test_projects_that_come_in_crowds_neither_end_the_upkeep_nor_push_out_who_came_before(first: bool) -> None:
    settings = Settings(OLD, OLD)

    async def run() -> Known:
        client: Any = settings
        limits = UpkeepLimits(settle_s=0.02, again_s=0.0)
        made = Upkeep(lambda: client, lambda project: {OLD}, limits=limits, max_projects=2)
        made.start()
        crowd = [f"{number}.1700000000" for number in range(100, 110)]
        for project in (P, *crowd) if first else (*crowd, P):
            made.look(project, NEW)
        await eventually(lambda: crowd[0] in made.known)
        made.look(P, NEW)  # Label Studio calls /setup again and again
        await eventually(lambda: P in made.known)
        known = made.known[P]
        await made.stop(1.0)
        return known

    assert asyncio.run(run()).title == "Summer"
    assert (settings.title, settings.model_version) == (NEW, NEW)
