"""The rules for an object tag's `value`, asked of Label Studio's own editor: what it makes of each, in one form."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from label_config.errors import UnsupportedConfig
from label_config.task_value import checked_place, shown
from tests.end_to_end.site import Site

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
NOT_SHOWN = {"$图片": "$图片", "$image-url": f"{HOST}plain.jpg-url"}
READ = "Array.from(Htx.annotationStore.selected.names.values()).filter(tag => tag.type === 'image')"


def test_the_form_shows_the_pictures_that_the_model_would_see(site: Site, label_studio_page: Page) -> None:
    images = "".join(f'<Image name="i{n}" value="{value}"/>' for n, value in enumerate((*SHOWN, *NOT_SHOWN)))
    project = site.client.create_project("字段取值", f'<View>{images}<Rating name="r" toName="i0"/></View>')
    site.call("POST", f"/api/projects/{project.id}/import", json=[{"data": DATA}])
    [task_id] = site.client.tasks(project.id)
    label_studio_page.goto(f"{site.server.url}/projects/{project.id}/data?task={task_id}")
    label_studio_page.get_by_role("button", name="Submit").wait_for()
    seen: dict[str, str] = dict(label_studio_page.evaluate(f"{READ}.map(tag => [tag.value, tag.parsedValue])"))

    for value in SHOWN:  # where a key is missing, the editor's address holds this word, and the model sees nothing
        assert seen[value] == shown(checked_place(value), DATA) or "undefined" in seen[value]
    for value, made in NOT_SHOWN.items():
        assert seen[value] == made
        with pytest.raises(UnsupportedConfig):
            checked_place(value)
