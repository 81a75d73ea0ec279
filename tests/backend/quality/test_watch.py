"""In the background: each project in its turn, sooner after a hint, later after a failure, and what is known then."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from backend.errors import LabelStudioError
from backend.predict.answered import Answered
from backend.quality.reading import People
from backend.quality.watch import PeoplePace, PeopleWatch
from backend.store import NewWork, RecipeRecord, Store, StoredAnswer
from label_config.answer import Answer, FieldAnswer
from tests.backend.quality.fake_people import PROJECT, VERSION, FakePeople, seen
from tests.backend.serving import CONFIG

PACE = PeoplePace()


class Rig:
    """A watch on a clock that tests turn. `refuse`: Label Studio does not take the token."""

    def __init__(self, store: Store, people: FakePeople) -> None:
        self.store = store
        self.people = people
        self.refuse = False
        self.now = 1_000.0
        self.watch = PeopleWatch(self._connect, store, clock=lambda: self.now, monotonic=lambda: self.now)

    def _connect(self) -> People:
        if self.refuse:
            raise LabelStudioError("Label Studio does not accept this access token. (token=secret)")
        return self.people

    def round(self, later_s: float = 0.0) -> int:
        """Return how many times tasks were asked for."""
        self.now += later_s
        before = len(self.people.asked)
        asyncio.run(self.watch.look_at_due())
        return len(self.people.asked) - before


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """One project, of which two tasks were asked for and one is labelled."""
    people = FakePeople()
    people.add(1, 2, predicted=VERSION)
    people.annotate(1, **seen())
    with Store.open(tmp_path / "a.db", 0.0) as store:
        store.save_recipe(RecipeRecord("r1", PROJECT, CONFIG, "{}"), 0.0)
        new = [NewWork(PROJECT, task_id, VERSION, "r1", None) for task_id in (1, 2)]
        store.accept(new, interactive=False, reply_until=0.0, now=1.0)
        store.accept([NewWork("", 3, VERSION, "r1", None)], interactive=False, reply_until=0.0, now=1.0)
        yield Rig(store, people)


def test_what_people_labelled_is_known_after_a_look_and_the_next_one_comes_later(rig: Rig) -> None:
    assert rig.round() == 1
    known = rig.watch.known[PROJECT]
    assert (known.model_version, known.read_at, known.error) == (VERSION, 1_000.0, "")
    assert known.quality is not None
    assert known.quality.num_filled == 1
    assert any("没有盲检的图片" in sentence for sentence in known.zh)
    assert known.en[-1].endswith("prelabel quality --project 12")
    assert list(rig.watch.known) == [PROJECT], "what no project asked for is nobody's"

    rig.people.annotate(2, **seen())
    assert rig.round(PACE.period_s - 1) == 0
    assert rig.round(1) == 1
    assert rig.watch.known[PROJECT].quality.num_filled == 2  # type: ignore[union-attr]


@pytest.mark.parametrize("lead", [1e308, 5e-324, float("inf"), float("nan"), 10**400, -1.0, "9", True, None, [9.0]])
def test_whatever_is_sent_as_a_lead_time_its_figures_can_be_told(rig: Rig, lead: Any) -> None:
    rig.people.add(3, 4, 5, predicted=VERSION)
    for task_id in (2, 3):
        rig.people.annotate(task_id, **seen(), lead_time=lead)
    for task_id in (4, 5):
        rig.people.annotate(task_id, parent_prediction=None, prediction={}, lead_time=lead)
    rig.round()
    known = rig.watch.known[PROJECT]
    assert known.error == ""
    assert known.quality is not None
    json.dumps(asdict(known.quality), allow_nan=False)


def test_an_answer_that_came_meanwhile_counts_at_the_next_look(rig: Rig) -> None:
    rig.people.add(2)
    rig.people.annotate(2)
    rig.round()
    assert rig.watch.known[PROJECT].quality.unused == {"no_answer": 1}  # type: ignore[union-attr]

    [row] = [row for row in rig.store.claim(9, 2.0) if row.task_id == 2]
    made = Answered(f"picture-2:{VERSION}", VERSION, Answer({"season": FieldAnswer(("冬季",), 0.9)}))
    rig.store.finish(row.id, StoredAnswer(made.key, made.content), 0.9, False, 3.0)
    rig.round(PACE.period_s)
    assert rig.watch.known[PROJECT].quality.unused == {"not_chosen": 1}  # type: ignore[union-attr]


def test_of_a_model_version_that_nobody_has_spoken_of_no_earlier_one_s_figures_are_told(rig: Rig) -> None:
    rig.store.set_present(RecipeRecord("r2", PROJECT, CONFIG, '{"extra_instructions": "x"}'), "newer", 2.0)
    rig.round()

    known = rig.watch.known[PROJECT]
    assert known.quality is not None
    assert (known.model_version, known.quality.num_filled, known.quality.threshold.threshold) == ("newer", 0, None)
    assert known.en[0].startswith("People have said nothing yet of the present model version")
    assert known.en[1].startswith(f"Model version {VERSION}: right, checked blind -; pre-filled, unchanged 100% of 1")


def test_a_hint_has_it_looked_at_sooner_but_not_at_once_again(rig: Rig) -> None:
    rig.round()
    for _ in range(100):
        rig.watch.hint("12")
        rig.watch.hint("99")
    assert rig.round(PACE.soonest_s - 1) == 0
    assert rig.round(1) == 1


def test_after_a_failure_it_waits_longer_each_time_says_why_and_keeps_what_it_knew(rig: Rig) -> None:
    rig.round()
    rig.people.fail = 2
    rig.round(PACE.period_s)
    known = rig.watch.known[PROJECT]
    assert known.error == "Label Studio did not answer in time."
    assert known.quality is not None

    rig.watch.hint("12")
    assert rig.round(2 * PACE.soonest_s - 1) == 0, "a hint does not shorten that"
    rig.round(1)
    assert rig.round(2 * PACE.soonest_s) == 0
    assert rig.round(2 * PACE.soonest_s) == 1
    assert rig.watch.known[PROJECT].error == ""


def test_a_refused_token_is_told_without_it(rig: Rig) -> None:
    rig.refuse = True
    rig.round()
    assert "does not accept" in rig.watch.known[PROJECT].error
    assert rig.watch.known[PROJECT].quality is None


def test_a_project_that_is_gone_is_known_no_more(rig: Rig) -> None:
    rig.round()
    rig.people.project = ""
    rig.round(PACE.period_s)
    assert rig.watch.known[PROJECT].quality is None
    assert rig.watch.known[PROJECT].zh == ()


def test_however_many_projects_there_are_each_is_looked_at_once_in_its_period(rig: Rig) -> None:
    others = [f"{number}.1700000000" for number in range(100, 1_200)]
    new = [NewWork(name, 1, VERSION, "r1", None) for name in others]
    rig.store.accept(new, interactive=False, reply_until=0.0, now=0.5)  # before the one that people have labelled
    rig.round()
    assert rig.watch.known.keys() == {PROJECT, *others}
    known = rig.watch.known[PROJECT].quality
    assert known is not None
    rig.now += PACE.period_s / 2
    rig.round()
    assert {one.read_at for one in rig.watch.known.values()} <= {0.0, 1_000.0}
    rig.round(PACE.period_s)
    assert (rig.watch.known[PROJECT].quality, rig.watch.known[PROJECT].read_at) == (known, rig.now)


def test_without_an_api_key_nothing_is_looked_for(tmp_path: Path) -> None:
    async def go() -> None:
        with Store.open(tmp_path / "a.db", 0.0) as store:
            watch = PeopleWatch(None, store)
            watch.start()
            watch.hint("12")
            watch.stop()
            assert not watch.known

    asyncio.run(go())
