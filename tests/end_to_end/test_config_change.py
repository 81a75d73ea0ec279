"""The label config changes, or the project was connected in Label Studio alone: no command is needed to see scores."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from html import unescape
from pathlib import Path

import httpx

from backend.commands.demo.local_backend import LocalBackend
from backend.commands.join import as_object
from backend.commands.model_settings import ModelSettings
from backend.commands.quality_apply import apply_threshold
from backend.label_studio.client import Project, TaskRegions
from backend.predict.options import ProjectOptions, read_options
from backend.quality.words import Sentences
from label_config.ready_made import ready_made
from tests.backend.quality.given import quality, schema
from tests.end_to_end.site import Site, read_answer, told
from tests.limits import WAIT_S, until

NUM_TASKS = 64  # more than a reply holds


def scores(site: Site, project: Project) -> list[float | None]:
    """What the Data Manager shows in its column "Prediction score"."""
    found = site.call("GET", "/api/tasks", params={"project": project.id, "page_size": 1_000, "fields": "all"}).json()
    return [task["predictions_score"] for task in found["tasks"]]


def settings(site: Site, project: Project) -> tuple[str, list[tuple[str, str]]]:
    """The version that the project shows; title and version of each of its backends."""
    shown = site.call("GET", f"/api/projects/{project.id}").json()["model_version"]
    return shown, [(one.title, one.model_version) for one in site.client.backends(project.id)]


def num_predictions(site: Site, project: Project) -> set[int]:
    """How many each task has, as Label Studio counts them in its Data Manager."""
    found = site.call("GET", "/api/tasks", params={"project": project.id, "page_size": 1_000, "fields": "all"}).json()
    return {task["total_predictions"] for task in found["tasks"]}


def press(backend: LocalBackend, action: str, project: Project) -> None:
    """The button on the status page."""
    page = httpx.get(f"{backend.url}/status", timeout=WAIT_S, trust_env=False).text
    uid = told(backend, project)["project"]
    form = re.search(rf'action="status/{action}".*?value="{uid}".*?name="token" value="([^"]*)"', page, re.DOTALL)
    assert form is not None
    fields = {"project": uid, "token": unescape(form[1])}
    origin = {"Origin": backend.url, "Sec-Fetch-Site": "same-origin"}
    reply = httpx.post(f"{backend.url}/status/{action}", data=fields, headers=origin, timeout=WAIT_S, trust_env=False)
    assert reply.status_code == 303, reply.text


def test_a_project_connected_in_label_studio_alone_shows_scores(
    site: Site, backend: LocalBackend, pictures: list[Path]
) -> None:
    project = site.client.create_project("Connected by hand", ready_made("garments.zh"))
    site.call("POST", "/api/ml", json={"project": project.id, "url": backend.url, "title": "我的模型"})
    assert settings(site, project)[0] in ("我的模型", settings(site, project)[1][0][1])
    site.client.upload_files(project.id, pictures[:6])
    site.retrieve(project, 6)
    until(lambda: None not in scores(site, project), "a score of each task")
    shown, [(title, version)] = settings(site, project)
    assert shown == title == version != "我的模型"
    assert "我的模型" in told(backend, project)["note"]["text"]
    assert told(backend, project)["title"] == "Connected by hand"


def test_a_config_changed_in_the_middle_of_a_run_is_answered_by_the_new_one_and_each_task_counted_once(
    site: Site, backend: LocalBackend, pictures: list[Path]
) -> None:
    project = site.connected(backend, "Changed in the middle")
    for _ in range(NUM_TASKS // 8):
        site.client.upload_files(project.id, pictures[:8])
    before, _ = settings(site, project)
    site.client.retrieve_predictions(project.id)
    site.client.set_label_config(project.id, ready_made("garments.en"))

    site.client.retrieve_predictions(project.id)
    present = settings(site, project)[1][0][1]
    assert present != before

    def versions() -> Counter[str]:
        return Counter(one.model_version for one in site.client.predictions(project.id))

    until(lambda: versions()[present] == NUM_TASKS, "a prediction of the new version for each task")
    until(lambda: told(backend, project)["num_answered"] == NUM_TASKS, "all of them counted")
    now = told(backend, project)
    assert (now["num_failed"], now["progress"]) == (0, 1.0)
    by_task = Counter(one.task_id for one in site.client.predictions(project.id) if one.model_version == present)
    assert set(by_task.values()) == {1}
    until(lambda: settings(site, project) == (present, [(present, present)]), "the settings follow")
    assert None not in scores(site, project)

    num_stale = versions()[before]
    if num_stale:  # as many as were there before the config changed
        until(lambda: told(backend, project)["num_stale"] == num_stale, "the earlier ones are known")
        twice = [one for one in site.client.predictions(project.id) if one.model_version == before][:2]
        again = [{"task": one.task_id, "model_version": before, "result": list(one.regions)} for one in twice]
        site.call("POST", f"/api/projects/{project.id}/import/predictions", json=again)
        press(backend, "delete-older", project)
        until(lambda: set(versions()) == {present}, "the earlier ones are deleted")
        until(lambda: told(backend, project)["num_stale"] == told(backend, project)["num_older"] == 0)
        until(lambda: settings(site, project)[0] == present, "what the deletion unset is set again")
        assert num_predictions(site, project) == {1}
    assert versions()[present] == NUM_TASKS


def test_a_threshold_that_is_applied_fills_two_tabs_and_changes_no_answer(
    site: Site, backend: LocalBackend, pictures: list[Path]
) -> None:
    project = site.connected(backend, "Applied")
    site.client.upload_files(project.id, pictures[:6])
    before = site.retrieve(project, 6)
    until(lambda: None not in scores(site, project), "a score of each task")
    threshold = sorted(score for score in scores(site, project) if score is not None)[3]
    found = quality(80, 0, asked=schema())
    found = replace(found, threshold=replace(found.threshold, threshold=threshold))

    [ours] = site.client.backends(project.id)
    options, _ = read_options(ours.extra_params, ProjectOptions())

    apply_threshold(ModelSettings(site.client, project.id, Sentences("zh"), print), found, options)

    [ours] = site.client.backends(project.id)
    assert as_object(ours.extra_params)["review_thresholds"] == {"season": min(0.05, threshold)}, "its own"
    assert ours.model_version != next(iter(before.values())).model_version

    def present() -> dict[int, TaskRegions]:
        predictions = site.client.predictions(project.id)
        return {one.task_id: one for one in predictions if one.model_version == ours.model_version}

    site.client.retrieve_predictions(project.id)
    until(lambda: len(present()) == 6, "all of them rated anew")
    for task_id, one in present().items():
        assert read_answer(project, one) == read_answer(project, before[task_id])
    tabs = {
        one["data"]["title"]: one["id"]
        for one in site.call("GET", "/api/dm/views", params={"project": project.id}).json()
    }

    def num_in(tab: str) -> int:
        return int(site.call("GET", "/api/tasks", params={"view": tabs[tab], "page_size": 1}).json()["total"])

    until(lambda: num_in("可直接通过") == num_in("未达门槛") == 3, "each task in one of the two tabs")
