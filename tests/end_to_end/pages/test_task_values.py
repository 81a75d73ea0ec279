"""The editor's rules for `value`, asked of the real one: a form of many pictures, and which addresses it asks for."""

from __future__ import annotations

from playwright.sync_api import Page

from label_config.errors import UnsupportedConfig
from label_config.task_value import checked_place, shown
from tests.end_to_end.site import Site
from tests.limits import WAIT_S

HOST = "http://pictures.invalid/"
DATA = {
    "image": f"{HOST}plain.jpg",
    "item": {"url": f"{HOST}inner.jpg", "deep": {"url": f"{HOST}deep.jpg"}},
    "images": [f"{HOST}first.jpg", f"{HOST}second.jpg"],
    "pages": [{"url": f"{HOST}page.jpg"}],
    "host": "pictures.invalid",
    "name": "text",
    "图片": f"{HOST}chinese.jpg",
    "image-url": f"{HOST}hyphen.jpg",
}
SHOWN = (
    "$image", "$item.url", "$item.deep.url", "$images[0]", "$images[1]", "$pages[0].url", "http://$host/$name",
    "http://$host/$name?x=$item.none",
)  # fmt: skip
NOT_SHOWN = ("$图片", "$image-url")


def test_the_form_shows_the_pictures_that_the_model_would_see(site: Site, label_studio_page: Page) -> None:
    images = "".join(f'<Image name="i{n}" value="{value}"/>' for n, value in enumerate((*SHOWN, *NOT_SHOWN)))
    config = f'<View>{images}<Rating name="r" toName="i0"/></View>'
    project = site.client.create_project("字段取值", config)
    site.call("POST", f"/api/projects/{project.id}/import", json=[{"data": DATA}])
    [task_id] = site.client.tasks(project.id)
    asked: set[str] = set()
    page = label_studio_page
    page.on("request", lambda request: asked.add(request.url))

    page.goto(f"{site.server.url}/projects/{project.id}/data?task={task_id}")
    page.get_by_role("button", name="Submit").wait_for()
    wanted = {shown(checked_place(value), DATA) for value in SHOWN}
    assert None in wanted  # "undefined" stands in its address
    while not wanted - {None} <= asked:
        page.wait_for_event("request", timeout=WAIT_S * 1_000)
    page.wait_for_load_state("networkidle")
    found = {address for address in asked if address.startswith(HOST)}
    assert found - {f"{HOST}text?x=undefined"} == wanted - {None}
    for value in NOT_SHOWN:
        try:
            checked_place(value)
        except UnsupportedConfig:
            continue
        raise AssertionError(value)
