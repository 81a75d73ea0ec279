"""The status page and its figures as `prelabel serve` has them: the real app, the real store, real HTTP."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from backend.images import FetchedImage
from tests.backend.delivery.fake_server import fake_server
from tests.backend.fake_label_studio import LEGACY_KEY
from tests.backend.gate import GateEngine
from tests.backend.serving import CONFIG, Server, predict_body, serving, task
from tests.fakes import FakeImages
from tests.limits import until


class Images(FakeImages):
    """Pictures that come back."""

    away = True

    async def fetch(
        self, url: str, *, task_id: int | None, timeout_s: float, interactive: bool = False, project: str = ""
    ) -> FetchedImage:
        return await super().fetch("missing" if self.away else url, task_id=task_id, timeout_s=timeout_s)


def status(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = server.client.get("/status.json").json()
    return found


def press(server: Server, action: str) -> None:
    page = server.client.get("/status", params={"lang": "en"}).text
    form = re.search(rf'<form[^>]*action="[^"]*status/{action}".*?</form>', page, re.DOTALL)
    assert form, page
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form[0]))
    reply = server.client.post(f"/status/{action}", data=fields, headers={"Origin": server.url})
    assert reply.status_code == 303, reply.text


def test_people_see_what_waits_and_can_cancel_it(tmp_path: Path) -> None:
    engine = GateEngine(3)
    with serving(tmp_path, engine, max_slots=2) as server:
        server.predict_late(*(task(n) for n in range(20)), when=lambda: engine.num_asked == 3 + 2 * 2)
        [project] = status(server)["projects"]
        assert (project["num_answered"], project["num_queued"] + project["num_running"]) == (3, 17)
        assert server.metric("prelabel_work", state="queued") == project["num_queued"]
        press(server, "cancel")
        engine.open()
        until(lambda: status(server)["speed"]["num_running"] == 0)
        [project] = status(server)["projects"]
        assert project["num_cancelled"] == 17
        assert project["num_queued"] == 0


def test_a_retried_failure_is_computed_without_another_click(tmp_path: Path) -> None:
    images = Images()
    with serving(tmp_path, images=images) as server:
        assert server.predict(task(1)).json()["results"] == [[]]
        [project] = status(server)["projects"]
        assert project["failures"] == {"image_not_found": 1}
        images.away = False
        press(server, "retry")
        until(lambda: status(server)["projects"][0]["num_done"] == 1)


def test_the_page_links_to_where_people_see_label_studio_and_names_the_project(tmp_path: Path) -> None:
    with fake_server() as label_studio:
        project = label_studio.add_project(1, 3)
        settings = {"label_studio_url": label_studio.url, "label_studio_api_key": LEGACY_KEY}
        public = {"label_studio_public_url": "https://labels.example/"}
        engine = GateEngine()
        with serving(tmp_path, engine, **settings, **public) as server:
            label_studio.configs[1] = CONFIG
            body = predict_body(*(task(n) for n in sorted(label_studio.tasks[1])))
            server.post_late({**body, "project": project}, when=lambda: engine.num_asked == 3)
            engine.open()
            until(lambda: status(server)["projects"][0]["title"] == "project 1")
            assert status(server)["projects"][0]["url"] == "https://labels.example/projects/1/data"
            assert 'href="https://labels.example/projects/1/data' in server.client.get("/status").text


def test_a_request_that_waits_is_answered_when_its_project_is_cancelled(tmp_path: Path) -> None:
    engine = GateEngine()
    with serving(tmp_path, engine, max_slots=2) as server, ThreadPoolExecutor(1) as beside:
        asking = beside.submit(server.predict, *(task(n) for n in range(8)))
        until(lambda: engine.num_asked == 4)
        press(server, "cancel")
        assert asking.result().json()["results"] == [[]] * 8
        until(lambda: engine.num_cancelled == 4)
        assert status(server)["projects"][0]["num_cancelled"] == 8
