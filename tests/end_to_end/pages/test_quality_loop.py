"""A project with a blind audit, from its pictures to what may pass unseen: people label, the report equals a count by
hand from Label Studio's export, the threshold is applied, and the tabs in the browser hold what they say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from backend.commands.demo.local_backend import LocalBackend
from backend.label_studio.people import PeopleClient
from backend.pages.numbers import percent
from tests.end_to_end import by_hand
from tests.end_to_end.pages.browser import open_data_manager
from tests.end_to_end.people import People, answered, fashion, predicted
from tests.end_to_end.site import Site, told
from tests.limits import until

PASSING_TAB, REST_TAB, REVIEW_TAB = "可直接通过", "未达门槛", "需人工复核"
DELTA = 0.1


@pytest.mark.parametrize(
    ("num_tasks", "audit", "target", "num_blind"),
    [
        pytest.param(36, 50, 0.95, 6, id="few"),
        # the first planned look is at 50 blind labels
        pytest.param(300, 20, 0.83, 53, id="300", marks=pytest.mark.soak),
    ],
)
def test_what_is_said_of_a_project_equals_a_count_by_hand_and_what_may_pass_is_a_tab(
    site: Site,
    backend: LocalBackend,
    label_studio_page: Page,
    quality_of: Callable[..., dict[str, Any]],
    tmp_path: Path,
    num_tasks: int,
    audit: float,
    target: float,
    num_blind: int,
) -> None:
    project = site.connected(backend, f"How good {num_tasks} answers are", audit=audit)
    files = fashion(tmp_path)
    data, shown, blind = answered(site, backend, project, files, num_tasks, num_blind)
    assert told(backend, project)["num_withheld"] == len(blind)
    number_of = {task: int(one["image"][-9:-4]) for task, one in data.items()}
    with PeopleClient(site.server.url, site.server.api_key) as client:
        assert client.data_of(project.id, list(data)) == data

    # Half of what is pre-filled is labelled, and what opens empty.
    people = People(site, project)
    skipped, *blind = blind
    assert people.shown(skipped) == []
    people.skip(skipped)
    made = {task: people.label(task, number_of[task]) for task in blind}
    assert {one["parent_prediction"] for one in made.values()} == {None}
    people.skip(shown[0])
    people.accept_unseen(shown[1])
    seen = shown[2 : len(shown) // 2]
    made |= {task: people.label(task, number_of[task]) for task in seen}
    before = people.export()
    found = quality_of(project, "--target", target)  # after it has read that, the server delivers what was withheld
    until(lambda: predicted(site, project) == {*shown, *blind}, "predictions of what was labelled blind")
    export = people.export()
    by_hand.assert_said(found, export, 1 - target, DELTA)
    assert (found["num_blind"], found["num_filled"]) == (len(blind), len(seen))
    people_said = [[task["annotations"] for task in one] for one in (before, export)]
    assert people_said[0] == people_said[1], "nothing of people's work is changed"

    # They change their minds.
    people.change(made[seen[0]]["id"], number_of[seen[0]] + 1)
    people.delete(made[seen[1]]["id"])
    people.delete(made[blind[0]]["id"])
    people.label(shown[-1], number_of[shown[-1]])
    site.call("DELETE", f"/api/tasks/{shown[-2]}")
    site.client.upload_files(project.id, [next(files)])
    found = quality_of(project, "--target", target)
    by_hand.assert_said(found, people.export(), 1 - target, DELTA)
    assert found["num_blind"] == len(blind) - 1
    at = found["threshold"]["threshold"]
    if at is None:  # of few it is; of 300 where chance has it so
        quality_of(project, "--target", target, "--apply", fails=True)
        return

    # The page says the same, and the tabs hold what they say once the tasks are rated anew.
    report = tmp_path / "quality.html"
    assert quality_of(project, "--target", target, "--apply", "--report", report) == found
    page = label_studio_page
    page.goto(report.as_uri())
    share = found["threshold"]["num"] / found["threshold"]["num_all"]
    expect(page.locator("#tile-passing")).to_have_text(percent(share))
    [ours] = site.client.backends(project.id)
    assert ours.model_version != found["model_version"]
    site.client.retrieve_predictions(project.id)
    num_there = len(site.client.tasks(project.id))
    until(
        lambda: len(predicted(site, project, ours.model_version)) == num_there - told(backend, project)["num_withheld"],
        "all that is shown is rated anew",
    )
    export = people.export()
    num_passing, num_left = by_hand.num_by_score(export, ours.model_version, at)
    in_tabs = {PASSING_TAB: num_passing, REST_TAB: num_left, REVIEW_TAB: by_hand.num_to_review(export)}
    assert num_passing > 0
    for tab, num in in_tabs.items():
        open_data_manager(page, site.server, project.id, num_there, num_shown=num, tab=tab)
