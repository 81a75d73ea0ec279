"""People label in a real Label Studio; what is said of the answers equals what its export says, counted by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import pytest

from backend import cli
from backend.commands.demo.local_backend import LocalBackend
from backend.label_studio.client import Project
from backend.label_studio.people import PeopleClient
from backend.label_studio.predictions import PredictionsClient
from backend.predict.answered import Answered
from backend.quality.intervals import share_of
from backend.store import NewWork, RecipeRecord, Store, StoredAnswer
from label_config.answer import Answer, FieldAnswer
from label_config.ready_made import ready_made
from tests.end_to_end.site import Site
from tests.limits import WAIT_S, until

VERSION = "garments-nf4-0123456789ab"
SUMMER, WINTER = "夏季", "秋冬"
CATEGORY = "服饰 / 上装 / T恤"
NUM_TASKS, NUM_FILLED, NUM_BLIND = 40, 20, 12
"""The first ones have a prediction; those after them have an answer that Label Studio was not told."""


def regions(season: str, **more: Any) -> list[dict[str, Any]]:
    labels = {"category": CATEGORY, "season": season}
    return [
        {"from_name": name, "to_name": "image", "type": "choices", "value": {"choices": [label]}, **more}
        for name, label in labels.items()
    ]


class People:
    """What they do in one project, through Label Studio's API."""

    def __init__(self, site: Site, project: Project) -> None:
        self._site = site
        self._project = project

    def annotate(self, task: int, season: str, lead_s: float, **more: Any) -> int:
        body = {"result": regions(season, **more), "lead_time": lead_s}
        return int(self._site.call("POST", f"/api/tasks/{task}/annotations", json=body).json()["id"])

    def change(self, annotation: int, season: str) -> None:
        body = {"result": regions(season, origin="prediction-changed")}
        self._site.call("PATCH", f"/api/annotations/{annotation}", json=body)

    def delete(self, annotation: int) -> None:
        self._site.call("DELETE", f"/api/annotations/{annotation}")

    def skip(self, task: int) -> None:
        body = {"result": [], "lead_time": 1.0}
        self._site.call("POST", f"/api/tasks/{task}/annotations?was_cancelled=true", json=body)

    def accept_unseen(self, task: int) -> None:
        """Create Annotations From Predictions."""
        chosen = {"selectedItems": {"all": False, "included": [task]}, "filters": {"conjunction": "and", "items": []}}
        action = f"/api/dm/actions?id=predictions_to_annotations&project={self._project.id}"
        self._site.call("POST", action, json=chosen)

    def export(self) -> list[dict[str, Any]]:
        params = {"exportType": "JSON", "download_all_tasks": "true"}
        return list(self._site.call("GET", f"/api/projects/{self._project.id}/export", params=params).json())


def predicted_project(site: Site, data_dir: Path) -> tuple[Project, list[int]]:
    project = site.client.create_project("How good the answers are", ready_made("garments.zh"))
    site.import_tasks(project, *(f"http://pictures.example/{i}.jpg" for i in range(NUM_TASKS)))
    tasks = list(site.client.tasks(project.id))
    prediction = {"model_version": VERSION, "score": 0.96, "result": regions(SUMMER, score=0.96)}
    with PredictionsClient(site.server.url, site.server.api_key) as client:
        client.import_predictions(project.id, [{"task": task, **prediction} for task in tasks[:NUM_FILLED]])
        current = client.current_project(project.id)
    assert current is not None
    site.call("PATCH", f"/api/projects/{project.id}", json={"model_version": VERSION})
    category = FieldAnswer((tuple(CATEGORY.split(" / ")),), 0.97)
    answer = Answer({"category": category, "season": FieldAnswer((SUMMER,), 0.96)})
    with Store.open(data_dir / "prelabel.db", 0.0) as store:
        store.save_recipe(RecipeRecord("r1", current.uid, project.label_config, "{}"), 0.0)
        for task in tasks[NUM_FILLED : NUM_FILLED + NUM_BLIND]:
            new = NewWork(current.uid, task, VERSION, "r1", None)
            [row] = store.accept([new], interactive=False, reply_until=0.0, now=1.0)
            made = Answered(f"picture-{task}:{VERSION}", VERSION, answer)
            store.finish(row.id, StoredAnswer(made.key, made.content), 0.96, False, 2.0)
    return project, tasks


def by_hand(export: list[dict[str, Any]]) -> dict[str, Any]:
    """Counted from the export alone, as docs/quality.md says it."""
    num_right, leads = {"blind": 0, "filled": 0}, {"blind": list[float](), "filled": list[float]()}
    unused = {"not_labelled": 0, "cancelled": 0, "from_predictions": 0}
    for task in export:
        if not task["annotations"]:
            unused["not_labelled"] += 1
            continue
        [one] = task["annotations"]
        if one["was_cancelled"]:
            unused["cancelled"] += 1
        elif one["parent_prediction"] and one["lead_time"] is None:
            unused["from_predictions"] += 1
        else:
            kind = "filled" if one["prediction"] else "blind"
            leads[kind].append(one["lead_time"])
            [season] = [region for region in one["result"] if region["from_name"] == "season"]
            num_right[kind] += season["value"]["choices"] == [SUMMER]
    return {"num_right": num_right, "leads": leads, "unused": {name: num for name, num in unused.items() if num}}


def assert_equal(found: dict[str, Any], hand: dict[str, Any]) -> None:
    for kind, seconds in hand["leads"].items():
        share = share_of(hand["num_right"][kind], len(seconds))
        assert found[f"num_{kind}"] == found[kind]["num"] == len(seconds)
        assert found[kind]["num_right"] == hand["num_right"][kind]
        assert (found[kind]["low"], found[kind]["high"]) == (pytest.approx(share.low), pytest.approx(share.high))
        assert found["time_saved"][f"num_{kind}"] == len(seconds)
        assert found["time_saved"][f"{kind}_s"] == median(seconds)
    assert found["unused"] == hand["unused"]
    assert found["num_entries"] == NUM_TASKS


def test_the_report_of_a_project_equals_a_count_by_hand_from_its_export(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**site.access, "PRELABEL_DATA_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    project, tasks = predicted_project(site, tmp_path)
    people = People(site, project)

    def report() -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["prelabel", "quality", "--project", str(project.id), "--blind", "--json"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
        return dict(json.loads(capsys.readouterr().out))

    kept = [people.annotate(task, SUMMER, 5.0 + n, origin="prediction") for n, task in enumerate(tasks[:11])]
    for task in tasks[11:15]:
        people.annotate(task, WINTER, 9.0, origin="prediction-changed")
    people.skip(tasks[15])
    people.accept_unseen(tasks[16])
    blind = tasks[NUM_FILLED : NUM_FILLED + NUM_BLIND]
    made = [people.annotate(task, SUMMER if n < 9 else WINTER, 30.0 + n) for n, task in enumerate(blind)]
    first = people.export()

    with PeopleClient(site.server.url, site.server.api_key) as client:
        addresses = {task: {"image": f"http://pictures.example/{place}.jpg"} for place, task in enumerate(tasks)}
        assert client.data_of(project.id, tasks) == addresses

    found = report()
    assert found["model_version"] == VERSION
    assert (found["num_blind"], found["num_filled"]) == (NUM_BLIND, 15), "as they were told to"
    assert_equal(found, by_hand(first))
    assert people.export() == first, "nothing of people's work is changed"

    people.change(kept[0], WINTER)
    people.delete(kept[10])
    people.delete(made[0])
    people.annotate(tasks[17], SUMMER, 7.0, origin="prediction")
    site.call("DELETE", f"/api/tasks/{tasks[39]}")
    site.import_tasks(project, "http://pictures.example/another.jpg")

    found = report()
    assert (found["num_blind"], found["num_filled"]) == (NUM_BLIND - 1, 15)
    assert_equal(found, by_hand(people.export()))


def test_a_server_that_hears_of_an_annotation_reads_it_and_says_so_on_its_status_page(
    site: Site, backend: LocalBackend, pictures: list[Path]
) -> None:
    project = site.connected(backend, "Labelled beside a server")
    site.client.upload_files(project.id, pictures[:3])
    found = site.retrieve(project, 3)
    for task, seen in found.items():
        body = {"result": list(seen.regions), "lead_time": 6.0}
        site.call("POST", f"/api/tasks/{task}/annotations", json=body)

    def told() -> Any:
        view = httpx.get(f"{backend.url}/status.json", timeout=WAIT_S, trust_env=False).json()
        return next(one["quality"] for one in view["projects"] if one["project_id"] == str(project.id))

    until(lambda: (told() or {}).get("num_filled") == 3, "what people labelled is read")
    assert told()["filled_share"] == 1.0
    page = httpx.get(f"{backend.url}/status?lang=zh", timeout=WAIT_S, trust_env=False).text
    assert "预标注过" in page or "没有盲检的图片" in page
    metrics = httpx.get(f"{backend.url}/metrics", timeout=WAIT_S, trust_env=False).text
    assert f'prelabel_quality_filled_tasks{{project="{project.id}"}} 3.0' in metrics
