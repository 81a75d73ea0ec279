"""Label Studio stores a reply one prediction after the other: where the rest can be pushed, a reply is kept small."""

from __future__ import annotations

from pathlib import Path

from backend.queue.replies import MAX_IN_REPLY
from tests.backend.delivery.fake_server import fake_server
from tests.backend.fake_label_studio import LEGACY_KEY
from tests.backend.gate import GateEngine
from tests.backend.served import states
from tests.backend.serving import CONFIG, predict_body, serving, task
from tests.limits import until

NUM_TASKS = MAX_IN_REPLY + 20


def open_engine() -> GateEngine:
    engine = GateEngine()
    engine.open()
    return engine


def test_a_large_click_is_answered_at_once_and_its_predictions_are_pushed(tmp_path: Path) -> None:
    with fake_server() as label_studio:
        project = label_studio.add_project(12, NUM_TASKS, CONFIG)
        tasks = [task(number) for number in sorted(label_studio.tasks[12])]
        access = {"label_studio_url": label_studio.url, "label_studio_api_key": LEGACY_KEY}
        with serving(tmp_path, open_engine(), **access) as server:
            body = {**predict_body(*tasks), "project": project}
            assert server.client.post("/predict", json=body).json()["results"] == [[]] * NUM_TASKS
            until(lambda: states(tmp_path) == {"delivered": NUM_TASKS})
            assert label_studio.stored() == dict.fromkeys(label_studio.tasks[12], 1)

            label_studio.rows.clear()  # a person deletes them, and asks again when Label Studio surely has stored all
            server.time.put_forward(600)
            assert server.client.post("/predict", json=body).json()["results"] == [[]] * NUM_TASKS
            until(lambda: label_studio.stored() == dict.fromkeys(label_studio.tasks[12], 1))


def test_a_small_click_holds_its_predictions_and_a_large_one_too_while_pushes_fail(tmp_path: Path) -> None:
    with fake_server() as label_studio:
        project = label_studio.add_project(12, NUM_TASKS, CONFIG)
        tasks = [task(number) for number in sorted(label_studio.tasks[12])]
        access = {"label_studio_url": label_studio.url, "label_studio_api_key": LEGACY_KEY}
        with serving(tmp_path, open_engine(), **access) as server:
            few = server.client.post("/predict", json={**predict_body(*tasks[:9]), "project": project}).json()
            assert all(few["results"])
            label_studio.forbidden.add(12)
            server.client.post("/predict", json={**predict_body(*tasks), "project": project})
            until(lambda: server.client.get("/status.json").json()["delivery"]["last_error"])
            server.time.put_forward(600)
            all_of_them = server.client.post("/predict", json={**predict_body(*tasks), "project": project}).json()
            assert all(all_of_them["results"])


def test_a_reply_holds_all_where_nothing_can_be_pushed(tmp_path: Path) -> None:
    with serving(tmp_path, open_engine()) as server:
        results = server.predict(*(task(number) for number in range(NUM_TASKS))).json()["results"]
        assert all(results)
