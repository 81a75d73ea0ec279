"""A project with a blind audit, from its pictures to what may pass unseen: people label, the report equals a count by
hand from Label Studio's export, the threshold is applied, and the tabs in the browser hold what they say.

The people are simulated: they know what Fashion-MNIST says, and let every third wrong answer pass that they see.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from backend import cli
from backend.commands.demo.local_backend import LocalBackend
from backend.label_studio.client import Project
from backend.label_studio.people import PeopleClient
from backend.pages.numbers import percent
from benchmarks.pictures import labels_of, picture_of
from tests.end_to_end.pages import by_hand
from tests.end_to_end.pages.browser import open_data_manager
from tests.end_to_end.site import Site, told
from tests.limits import until

PASSING_TAB, REST_TAB, REVIEW_TAB = "可直接通过", "未达门槛", "需人工复核"
DELTA = 0.1


class People:
    """What they do in one project, through Label Studio's API."""

    def __init__(self, site: Site, project: Project) -> None:
        self._site = site
        self._project = project

    def shown(self, task: int) -> list[dict[str, Any]]:
        """The predictions in the form of who opens it; Label Studio asks the backend where it has none."""
        return list(self._site.call("GET", f"/api/tasks/{task}").json()["predictions"])

    def label(self, task: int, number: int) -> dict[str, Any]:
        """Open the task with test picture `number` and submit it."""
        shown = self.shown(task)
        right = right_labels(number)
        body: dict[str, Any] = {"result": regions(right, "manual"), "lead_time": 20.0 + number % 11}
        if shown:
            said = by_hand.labels(shown[0]["result"])
            kept = said if number % 3 == 0 else right
            origin = "prediction" if kept == said else "prediction-changed"
            body = {
                "result": regions(kept, origin),
                "lead_time": 5.0 + number % 7,
                "parent_prediction": shown[0]["id"],
            }
        return dict(self._site.call("POST", f"/api/tasks/{task}/annotations", json=body).json())

    def skip(self, task: int) -> None:
        body = {"result": [], "lead_time": 1.0, "was_cancelled": True}
        self._site.call("POST", f"/api/tasks/{task}/annotations", json=body)

    def accept_unseen(self, task: int) -> None:
        """Create Annotations From Predictions."""
        chosen = {"selectedItems": {"all": False, "included": [task]}, "filters": {"conjunction": "and", "items": []}}
        action = f"/api/dm/actions?id=predictions_to_annotations&project={self._project.id}"
        self._site.call("POST", action, json=chosen)

    def change(self, annotation: int, number: int) -> None:
        body = {"result": regions(right_labels(number), "prediction-changed")}
        self._site.call("PATCH", f"/api/annotations/{annotation}", json=body)

    def delete(self, annotation: int) -> None:
        self._site.call("DELETE", f"/api/annotations/{annotation}")

    def export(self) -> list[dict[str, Any]]:
        """Label Studio's JSON export with the predictions in it."""
        exports = f"/api/projects/{self._project.id}/exports"
        options = {"serialization_options": {"predictions": {"only_id": False}}}
        made = self._site.call("POST", f"{exports}/", json=options).json()["id"]
        return list(self._site.call("GET", f"{exports}/{made}/download", params={"exportType": "JSON"}).json())


def right_labels(number: int) -> dict[str, str]:
    right = labels_of(number)
    return {
        "category": " / ".join(right.category),
        "style": right.style,
        "season": right.season,
        "scene": right.scene,
    }


def regions(labels: dict[str, str], origin: str) -> list[dict[str, Any]]:
    return [
        {"from_name": name, "to_name": "image", "type": "choices", "value": {"choices": [label]}, "origin": origin}
        for name, label in labels.items()
    ]


def predicted(site: Site, project: Project, version: str = "") -> set[int]:
    """Tasks with a prediction in Label Studio, under `version` if one is named."""
    return {one.task_id for one in site.client.predictions(project.id) if version in ("", one.model_version)}


@pytest.fixture
def quality_of(
    site: Site, backend: LocalBackend, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """`prelabel quality --project ... --json`, beside the server; `fails`: it ends with an error after that."""

    def run(project: Project, *options: object, fails: bool = False) -> dict[str, Any]:
        for name, value in {**site.access, "PRELABEL_DATA_DIR": str(backend.data_dir)}.items():
            monkeypatch.setenv(name, value)
        command = ["prelabel", "quality", "--project", project.id, "--json", *options]
        monkeypatch.setattr(sys, "argv", list(map(str, command)))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert bool(ended.value.code) == fails
        return dict(json.loads(capsys.readouterr().out))

    return run


def fashion(folder: Path) -> Iterator[Path]:
    """Fashion-MNIST's test pictures, as files named by their numbers."""
    for number in itertools.count():
        path = folder / f"{number:05}.png"
        picture_of(number).save(path)
        yield path


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
    shown: list[int] = []
    blind: list[int] = []
    while len(blind) < num_blind:  # which are withheld is left to chance: in most projects once
        site.client.upload_files(project.id, list(itertools.islice(files, 50 if blind else num_tasks)))
        data = site.client.tasks(project.id)
        site.client.retrieve_predictions(project.id)
        until(lambda: told(backend, project)["num_answered"] == len(data), "every task is answered")  # noqa: B023
        until(lambda: told(backend, project)["num_done"] == 0, "what is shown is in Label Studio")
        shown = sorted(predicted(site, project))
        blind = sorted(set(data) - set(shown))
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
