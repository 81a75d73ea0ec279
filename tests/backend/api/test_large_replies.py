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


def test_a_reply_holds_no_more_than_label_studio_stores_in_time_and_the_rest_is_pushed(tmp_path: Path) -> None:
    with fake_server() as label_studio:
        project = label_studio.add_project(12, NUM_TASKS, CONFIG)
        tasks = [task(number) for number in sorted(label_studio.tasks[12])]
        access = {"label_studio_url": label_studio.url, "label_studio_api_key": LEGACY_KEY}
        with serving(tmp_path, open_engine(), **access) as server:
            results = server.client.post("/predict", json={**predict_body(*tasks), "project": project}).json()[
                "results"
            ]
            assert [bool(result) for result in results] == [True] * MAX_IN_REPLY + [False] * (NUM_TASKS - MAX_IN_REPLY)
            label_studio.store(12, [{**r, "task": t["id"]} for t, r in zip(tasks, results, strict=True) if r])
            until(lambda: states(tmp_path) == {"returned": MAX_IN_REPLY, "delivered": NUM_TASKS - MAX_IN_REPLY})
            server.time.put_forward(600)  # what was in the reply is looked up by now
            until(lambda: states(tmp_path) == {"delivered": NUM_TASKS})
        assert label_studio.stored() == dict.fromkeys(label_studio.tasks[12], 1)


def test_a_reply_holds_all_where_nothing_can_be_pushed(tmp_path: Path) -> None:
    with serving(tmp_path, open_engine()) as server:
        results = server.predict(*(task(number) for number in range(NUM_TASKS))).json()["results"]
        assert all(results)
