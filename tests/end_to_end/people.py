"""A project whose pictures are Fashion-MNIST's test pictures, and what people do in it, through Label Studio's API.

The people are simulated: they know what Fashion-MNIST says, and let every third wrong answer pass that they see.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from backend.commands.demo.local_backend import LocalBackend
from backend.label_studio.client import Project
from benchmarks.pictures import labels_of, picture_of
from tests.end_to_end import by_hand
from tests.end_to_end.site import Site, told
from tests.limits import until


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


def fashion(folder: Path) -> Iterator[Path]:
    """Fashion-MNIST's test pictures, as files named by their numbers."""
    for number in itertools.count():
        path = folder / f"{number:05}.png"
        picture_of(number).save(path)
        yield path


def answered(
    site: Site, backend: LocalBackend, project: Project, files: Iterator[Path], num_tasks: int, num_blind: int
) -> tuple[dict[int, dict[str, Any]], list[int], list[int]]:
    """The data of `num_tasks` tasks or more, made of `files` and answered; those that Label Studio shows an answer of,
    and `num_blind` or more that are withheld: which is left to chance, so that in most projects more are not needed."""
    blind: list[int] = []
    while len(blind) < num_blind:
        site.client.upload_files(project.id, list(itertools.islice(files, 50 if blind else num_tasks)))
        data = site.client.tasks(project.id)
        site.client.retrieve_predictions(project.id)
        until(lambda: told(backend, project)["num_answered"] == len(data), "every task is answered")  # noqa: B023
        until(lambda: told(backend, project)["num_done"] == 0, "what is shown is in Label Studio")
        shown = sorted(predicted(site, project))
        blind = sorted(set(data) - set(shown))
    return data, shown, blind
