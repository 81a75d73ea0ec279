"""The tabs and the big button of Label Studio's Data Manager: they always open, and bring what needs care first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Locator, Page, Response, expect

from backend.commands.demo.local_backend import LocalBackend
from backend.label_studio.client import Project
from backend.label_studio.tabs import DOUBT_TAB
from label_config.ready_made import ready_made
from tests.end_to_end.pages.browser import label_all_tasks, open_data_manager, scores, submit_and_go_on
from tests.end_to_end.site import Site
from tests.limits import until

REVIEW_TAB = "需人工复核"


def doubting_more(site: Site, backend: LocalBackend, title: str) -> Project:
    """A connected project where every second picture needs review, or so."""
    project = site.connected(backend, title)
    [known] = site.client.backends(project.id)
    site.client.save_backend(
        project.id, known.url, known.title, known.description, None, known.id, {"review_threshold": 0.99}
    )
    return site.connected(backend, title)  # the threshold is part of the model version


def link_on_status_page(page: Page, backend: LocalBackend, project: Project) -> Locator:
    """The number of tasks that need review, on the page that changes by itself."""
    page.goto(f"{backend.url}/status")
    return page.locator(f'[data-key^="project {project.id}."] [data-key="review"] a')


def test_what_needs_care_comes_first_and_leaves_the_tab_when_it_is_submitted(
    site: Site,
    backend: LocalBackend,
    pictures: list[Path],
    label_studio_page: Page,
    keep_screenshot: Callable[..., None],
) -> None:
    page = label_studio_page
    project = doubting_more(site, backend, "先看不确定的")
    site.client.upload_files(project.id, pictures[::3])
    found = site.retrieve(project, len(pictures[::3]))
    by_doubt = sorted(found, key=lambda task_id: found[task_id].score or 0.0)
    flagged = {number for number, p in found.items() if any(r["from_name"] == "needs_review" for r in p.regions)}
    assert 3 < len(flagged) < len(found)

    # The status page says how many, and the number is a link to them.
    link = link_on_status_page(page, backend, project)
    expect(link).to_have_text(str(len(flagged)))
    keep_screenshot(page, "status", full_page=True)
    link.click()
    page.get_by_text(f"Tasks: {len(flagged)} / {len(found)}").wait_for()

    # The tab that connect made can be sorted now, and the big button goes by doubt from any tab.
    open_data_manager(page, site.server, project.id, len(found), tab=DOUBT_TAB)
    expect(scores(page).first).to_be_visible()
    shown = [float(text) for text in scores(page).all_inner_texts()]
    assert shown == sorted(shown)
    open_data_manager(page, site.server, project.id, len(found))
    brought = [label_all_tasks(page)]
    brought += [submit_and_go_on(page) for _ in range(3)]
    assert brought == by_doubt[:4]

    # Three were submitted: they have left the tab, and the number falls.
    left = len(flagged - set(by_doubt[:3]))
    assert left < len(flagged)
    open_data_manager(page, site.server, project.id, len(found), num_shown=left, tab=REVIEW_TAB)
    expect(link_on_status_page(page, backend, project)).to_have_text(str(left))

    # Someone clears its filters: the number stays true and is no link, and connect gives them back.
    views = site.call("GET", "/api/dm/views", params={"project": project.id}).json()
    [tab] = [view for view in views if view["data"]["title"] == REVIEW_TAB]
    cleared = {**tab["data"], "filters": {"conjunction": "and", "items": []}}
    site.call("PATCH", f"/api/dm/views/{tab['id']}/", json={"project": project.id, "data": cleared})
    link = link_on_status_page(page, backend, project)
    expect(link).to_have_count(0)
    expect(page.locator(f'[data-key^="project {project.id}."] [data-key="review"]')).to_contain_text(str(left))
    site.connected(backend, "先看不确定的")
    expect(link).to_have_text(str(left))
    open_data_manager(page, site.server, project.id, len(found), num_shown=left, tab=REVIEW_TAB)
    again = site.call("GET", "/api/dm/views", params={"project": project.id}).json()
    assert [view["id"] for view in again] == [view["id"] for view in views]


def test_every_tab_opens_before_there_are_pictures_and_after_they_are_gone(
    site: Site, backend: LocalBackend, pictures: list[Path], label_studio_page: Page
) -> None:
    page = label_studio_page
    failed: list[str] = []

    def note(reply: Response) -> None:
        if reply.status >= 500:
            failed.append(reply.url)

    page.on("response", note)
    project = site.connected(backend, "新项目")
    expect_every_tab_to_open(page, site, project)

    site.client.upload_files(project.id, pictures[:2])
    site.retrieve(project, 2)
    until(lambda: is_sorted(site, project), "the sorted tab")
    site.call("POST", f"/api/dm/actions?id=delete_tasks&project={project.id}", json={"selectedItems": {"all": True}})
    page.goto(f"{site.server.url}/projects/{project.id}/data")  # where Label Studio has deleted every tab itself
    page.get_by_text("Tasks: 0 / 0").wait_for()
    site.client.upload_files(project.id, pictures[:2])
    # Label Studio's SQLite gives the new tasks the ids of the old ones, and what was told of those a moment ago is left
    # out of a reply: so people click again.
    until(lambda: clicked(site, project) == 2, "predictions of the new tasks")
    until(lambda: is_sorted(site, project), "the sorted tab, made again")
    expect_every_tab_to_open(page, site, project)

    # A project that an earlier version has connected: its one tab is sorted, and Label Studio cannot show it.
    old = site.client.create_project("旧项目", ready_made("garments.zh"))
    data = {"title": DOUBT_TAB, "type": "list", "target": "tasks", "ordering": ["tasks:predictions_score"]}
    site.call("POST", f"/api/dm/views?project={old.id}", json={"project": old.id, "data": data})
    assert failed == []
    site.connected(backend, "旧项目")
    expect_every_tab_to_open(page, site, old)
    assert failed == []
    page.remove_listener("response", note)


def clicked(site: Site, project: Project) -> int:
    """How many predictions there are after a click on *Retrieve Predictions*."""
    site.client.retrieve_predictions(project.id)
    return len(site.client.predictions(project.id))


def is_sorted(site: Site, project: Project) -> bool:
    views = site.call("GET", "/api/dm/views", params={"project": project.id}).json()
    return any(view["data"].get("ordering") for view in views)


def expect_every_tab_to_open(page: Page, site: Site, project: Project) -> None:
    views = site.call("GET", "/api/dm/views", params={"project": project.id}).json()
    assert [view["data"]["title"] for view in views] == ["Default", REVIEW_TAB, DOUBT_TAB]
    for address in ("data", *(f"data?tab={view['id']}" for view in views)):
        with page.expect_response(lambda reply: "/api/tasks?" in reply.url) as answer:
            page.goto(f"{site.server.url}/projects/{project.id}/{address}")
        assert answer.value.status == 200
    expect(page.get_by_text("Runtime error")).to_have_count(0)
