"""A running server hears of what people label in a real Label Studio, and says what follows for the answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.commands.demo.local_backend import LocalBackend
from backend.commands.join import as_object
from backend.label_studio.client import Project, TaskRegions
from label_config.rating import calibrated
from tests.end_to_end.people import answered, fashion, regions, right_labels
from tests.end_to_end.site import Site, read_answer, told
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


RULE = "套头衫 与 外套：有拉链或纽扣的是外套。"


def test_a_rule_is_judged_by_the_serving_model_and_confidences_are_set_right_without_a_new_answer(
    site: Site, backend: LocalBackend, quality_of: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """Of a project whose people find that everything is for all seasons: which pictures are blind is left to chance."""
    project = site.connected(backend, "Rules and confidences", audit=50)
    data, _, blind = answered(site, backend, project, fashion(tmp_path), 120, 50)
    for task in blind:
        meant = right_labels(int(data[task]["image"][-9:-4])) | {"season": "四季"}
        site.call("POST", f"/api/tasks/{task}/annotations", json={"result": regions(meant, "manual"), "lead_time": 9.0})
    found = quality_of(project)
    assert found["num_blind"] == len(blind)
    until(lambda: set(predictions(site, project)) >= set(blind), "what was withheld is delivered")

    proposed = quality_of(project, "--propose-rules")
    assert proposed["num_proposing"] + proposed["num_held_out"] == len(blind)
    assert "四季" in {label for one in proposed["rules"] for label in (one["first"], one["second"])}
    tried = quality_of(project, "--try-rule", RULE, "--adopt", fails=True)  # garments heeds hardly any words
    assert tried["outcome"] != "better"
    assert (tried["num_held_out"], tried["failed"]) == (proposed["num_held_out"], {})
    assert quality_of(project, "--try-rule", RULE) == tried, "no new try"

    before = predictions(site, project)
    quality_of(project, "--apply-calibration")
    [ours] = site.client.backends(project.id)
    temperatures = as_object(ours.extra_params)["calibration"]
    fitted = {one["name"]: one["temperature"] for one in found["fields"]}
    assert temperatures == {name: fitted[name] for name in temperatures}
    assert temperatures["season"] > 1
    site.client.retrieve_predictions(project.id)

    def present() -> dict[int, TaskRegions]:
        return predictions(site, project, ours.model_version)

    until(lambda: len(present()) == len(before), "all of them rated anew")
    for task, one in present().items():
        old, new = read_answer(project, before[task]), read_answer(project, one)
        for name, field in old.fields.items():
            rated = new.fields[name]
            assert rated.value == field.value
            if field.confidence is not None:
                assert rated.confidence == pytest.approx(calibrated(field.confidence, temperatures.get(name, 1.0)))
    assert quality_of(project)["fields"] != found["fields"]


def predictions(site: Site, project: Project, version: str = "") -> dict[int, TaskRegions]:
    """By task; under `version` if one is named."""
    found = site.client.predictions(project.id)
    return {one.task_id: one for one in found if version in ("", one.model_version)}
