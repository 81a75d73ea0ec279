"""When our tabs are sorted and counted, and when Label Studio is left in peace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from backend.delivery.asking import MAX_REST_S, Asking
from backend.delivery.tabs import RETRY_S, ProjectTabs, ReviewLeft
from backend.label_studio.client import LabelStudioClient
from backend.label_studio.predictions import PredictionsClient
from backend.label_studio.tabs import DOUBT_TAB, Tabs, arrange_tabs
from tests.backend.fake_label_studio import CREATED, LEGACY_KEY, FakeLabelStudio, fake_label_studio
from tests.limits import until

PROJECT = f"1.{CREATED}"
TITLE = "需人工复核"


@dataclass
class Rig:
    """One project of Label Studio's, connected before it had a task. `now` is the clock of `tabs`."""

    server: FakeLabelStudio
    made: Tabs
    now: float = 0.0
    num_settled: int = 0
    num_told: int = 14
    tabs: Any = None

    @property
    def is_sorted(self) -> bool:
        return any(view["data"]["ordering"] for view in self.server.views.values())

    def left(self) -> ReviewLeft | None:
        found: dict[str, ReviewLeft] = self.tabs.left({PROJECT: self.num_told})
        return found.get(PROJECT)

    def settled(self) -> list[tuple[str, str]]:
        """What was asked once a later question for another project is answered: one comes after the other."""
        self.num_settled += 1
        other = 100 + self.num_settled
        self.tabs.asked(f"{other}.{CREATED}", "")
        until(lambda: ("GET", f"/api/projects/{other}") in self.server.calls, "the end of what was asked")
        return self.server.calls


@pytest.fixture
def rig() -> Iterator[Rig]:
    with fake_label_studio() as server:
        server.add_project("A", "<View/>")
        with LabelStudioClient(server.url, LEGACY_KEY) as client:
            rig = Rig(server, arrange_tabs(client, 1, TITLE))
        asking = Asking(lambda: PredictionsClient(server.url, LEGACY_KEY))
        rig.tabs = ProjectTabs(asking, lambda: rig.now)
        server.calls.clear()
        asking.start()
        yield rig
        asking.stop()


def test_the_tab_is_sorted_when_tasks_were_asked_for_and_not_looked_at_again(rig: Rig) -> None:
    rig.server.projects[1]["task_number"] = 3
    rig.tabs.asked(PROJECT, TITLE)
    until(lambda: rig.is_sorted, "a sorted tab")
    rig.settled()
    rig.server.calls.clear()
    rig.tabs.asked(PROJECT, TITLE)
    assert ("GET", "/api/dm/views") not in rig.settled()


def test_all_tabs_come_back_after_a_project_was_emptied(rig: Rig) -> None:
    rig.server.projects[1]["task_number"] = 3
    rig.tabs.asked(PROJECT, TITLE)
    until(lambda: rig.is_sorted, "a sorted tab")
    rig.settled()
    rig.server.views.clear()  # Label Studio's own doing when the last task is deleted
    rig.tabs.tasks_deleted("1")
    rig.tabs.asked(PROJECT, TITLE)
    until(lambda: rig.is_sorted, "a sorted tab")
    assert [view["data"]["title"] for view in rig.server.views.values()] == ["Default", TITLE, DOUBT_TAB]


def test_a_removed_tab_stays_away_when_some_tasks_are_deleted(rig: Rig) -> None:
    del rig.server.views[rig.made.review or 0]
    rig.server.projects[1]["task_number"] = 3
    rig.tabs.tasks_deleted("1")
    rig.tabs.asked(PROJECT, TITLE)
    until(lambda: rig.is_sorted, "a sorted tab")
    rig.settled()
    assert [view["data"]["title"] for view in rig.server.views.values()] == ["Default", DOUBT_TAB]


def test_what_is_left_to_review_is_known_a_moment_later_and_stays_fresh(rig: Rig) -> None:
    rig.server.projects[1]["task_number"] = 30
    rig.server.num_in_tab = 14
    assert rig.left() is None
    until(lambda: rig.left() == ReviewLeft(rig.made.review or 0, 14, 14), "the number of the tab")
    rig.server.num_in_tab = 13
    rig.now += MAX_REST_S
    until(lambda: rig.left() == ReviewLeft(rig.made.review or 0, 13, 14), "a smaller number")


def test_what_was_left_before_the_first_answers_is_told_to_nobody_after_them(rig: Rig) -> None:
    rig.server.projects[1]["task_number"] = 30
    rig.tabs.asked(PROJECT, TITLE)
    until(lambda: rig.is_sorted, "a sorted tab")
    rig.settled()
    rig.server.num_in_tab = 14
    assert rig.left() is None
    rig.now += MAX_REST_S
    until(lambda: rig.left() == ReviewLeft(rig.made.review or 0, 14, 14), "the number of the tab")


def test_a_tab_whose_filters_were_changed_is_not_linked_and_the_number_stays_true(rig: Rig) -> None:
    rig.server.projects[1]["task_number"] = 30
    rig.server.num_in_tab = 14
    until(lambda: rig.left() == ReviewLeft(rig.made.review or 0, 14, 14), "the number of the tab")
    data = rig.server.views[rig.made.review or 0]["data"]
    rig.server.views[rig.made.review or 0]["data"] = {**data, "filters": {"conjunction": "and", "items": []}}
    rig.now += MAX_REST_S
    until(lambda: rig.left() == ReviewLeft(None, 14, 14), "no link")
    rig.server.views[rig.made.review or 0]["data"] = data
    rig.now += MAX_REST_S
    until(lambda: rig.left() == ReviewLeft(rig.made.review or 0, 14, 14), "the link again")


def test_a_tab_that_people_removed_is_not_made_again(rig: Rig) -> None:
    rig.server.views.clear()
    rig.server.projects[1]["task_number"] = 3
    rig.tabs.asked(PROJECT, TITLE)
    rig.settled()
    assert rig.server.changes == []
    assert rig.left() is None


def test_a_project_of_the_same_number_elsewhere_is_left_alone(rig: Rig) -> None:
    rig.server.projects[1]["task_number"] = 3
    rig.tabs.asked("1.1600000000", TITLE)
    assert ("GET", "/api/dm/views") not in rig.settled()


def test_a_refusal_is_no_end(rig: Rig) -> None:
    rig.server.projects[1]["task_number"] = 3
    rig.server.refusals[("GET", "/api/dm/views")] = (503, {"detail": "busy"})
    rig.tabs.asked(PROJECT, TITLE)
    rig.settled()
    rig.server.refusals.clear()
    rig.now += RETRY_S
    rig.tabs.asked(PROJECT, TITLE)
    until(lambda: rig.is_sorted, "a sorted tab")


def test_without_an_api_key_nothing_is_known_and_nothing_asked() -> None:
    tabs = ProjectTabs(Asking(None))
    tabs.asked(PROJECT, TITLE)
    assert tabs.left({PROJECT: 14}) == {}
