"""A running server hears of what people label in a real Label Studio, and says what follows for the answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from backend.commands.demo.local_backend import LocalBackend
from tests.end_to_end.site import Site, told
from tests.limits import WAIT_S, until

NUM_TASKS, NUM_FILLED = 16, 3
SUMMER = [{"from_name": "season", "to_name": "image", "type": "choices", "value": {"choices": ["夏季"]}}]


def test_a_server_that_hears_of_annotations_reads_them_and_brings_what_was_withheld_of_those_tasks(
    site: Site, backend: LocalBackend, pictures: list[Path]
) -> None:
    project = site.connected(backend, "Labelled beside a server", audit=50)
    site.client.upload_files(project.id, pictures[:NUM_TASKS])
    site.client.retrieve_predictions(project.id)
    until(lambda: told(backend, project)["num_answered"] == NUM_TASKS, "every task is answered")
    until(lambda: told(backend, project)["num_done"] == 0, "what is shown is in Label Studio")
    shown = {one.task_id: one for one in site.client.predictions(project.id)}
    blind = next(task for task in site.client.tasks(project.id) if task not in shown)
    for task, results in [(blind, SUMMER), *((task, one.regions) for task, one in list(shown.items())[:NUM_FILLED])]:
        site.call("POST", f"/api/tasks/{task}/annotations", json={"result": list(results), "lead_time": 6.0})

    def quality() -> dict[str, Any]:
        return told(backend, project)["quality"] or {}

    until(lambda: quality().get("num_filled") == NUM_FILLED, "what people labelled is read")
    assert (quality()["num_blind"], quality()["filled_share"]) == (1, 1.0)
    until(lambda: blind in {one.task_id for one in site.client.predictions(project.id)}, "what was withheld of it")
    page = httpx.get(f"{backend.url}/status?lang=zh", timeout=WAIT_S, trust_env=False).text
    assert "盲检 1 张" in page
    metrics = httpx.get(f"{backend.url}/metrics", timeout=WAIT_S, trust_env=False).text
    assert f'prelabel_quality_filled_tasks{{project="{project.id}"}} 3.0' in metrics
