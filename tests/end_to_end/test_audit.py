"""The blind audit with a real Label Studio: withheld tasks open empty until a person has labelled them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from backend.commands.demo.local_backend import LocalBackend
from backend.label_studio.client import Project
from tests.end_to_end.site import Site
from tests.end_to_end.test_config_change import told
from tests.limits import until

NUM_TASKS = 20
LABELLED = [{"from_name": "season", "to_name": "image", "type": "choices", "value": {"choices": ["夏季"]}}]


def predicted(site: Site, project: Project) -> set[int]:
    return {prediction.task_id for prediction in site.client.predictions(project.id)}


def opened(site: Site, task_id: int) -> list[Any]:
    """The predictions of a task that a person opens, for which Label Studio asks the backend."""
    found: list[Any] = site.call("GET", f"/api/tasks/{task_id}").json()["predictions"]
    return found


def test_half_of_the_tasks_open_empty_and_get_their_prediction_once_they_are_labelled(
    site: Site, backend: LocalBackend, pictures: list[Path]
) -> None:
    project = site.connected(backend, "Audited", audit=50)
    for first in range(0, NUM_TASKS, 4):
        site.client.upload_files(project.id, pictures[first % 8 :][:4])
    tasks = set(site.client.tasks(project.id))
    assert len(tasks) == NUM_TASKS
    site.client.retrieve_predictions(project.id)
    until(lambda: told(backend, project)["progress"] == 1.0, "every task is answered")
    now = told(backend, project)
    withheld = tasks - predicted(site, project)
    assert (now["num_withheld"], now["num_answered"], now["num_failed"]) == (len(withheld), NUM_TASKS, 0)
    assert 0 < len(withheld) < NUM_TASKS
    assert all(opened(site, task_id) == [] for task_id in withheld)
    site.client.retrieve_predictions(project.id)
    assert predicted(site, project) == tasks - withheld

    one, skipped = sorted(withheld)[:2]
    site.call("POST", f"/api/tasks/{skipped}/annotations", json={"result": [], "was_cancelled": True})
    made = site.call("POST", f"/api/tasks/{one}/annotations", json={"result": LABELLED, "lead_time": 4.5}).json()
    assert made["parent_prediction"] is None
    until(lambda: predicted(site, project) == tasks - withheld | {one}, "the prediction of the labelled task")
    assert len(opened(site, one)) == 1
    assert told(backend, project)["num_withheld"] == len(withheld) - 1
    assert opened(site, skipped) == []
    until(lambda: (told(backend, project)["quality"] or {}).get("num_blind") == 1, "the blind one is counted as such")
