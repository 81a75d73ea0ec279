"""Finished predictions reach a real Label Studio, each once, whatever it has already or has lost meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from backend.delivery.loop import Delivery
from backend.label_studio.client import Project
from backend.label_studio.predictions import CallFailed, PredictionsClient
from label_config.ready_made import ready_made
from tests.backend.delivery.rig import VERSION, MemoryStore, Recipe
from tests.end_to_end.site import Site

NUM_TASKS = 30


def make_prediction(work: Any, content: str) -> dict[str, Any]:
    region = {"id": f"r{work.task_id}", "from_name": "caption", "to_name": "image", "type": "textarea"}
    return {"model_version": work.model_version, "score": 0.5, "result": [region | {"value": {"text": ["红色外套"]}}]}


def new_project(site: Site, title: str) -> tuple[Project, list[int]]:
    config = ready_made("garments.zh")
    project = site.client.create_project(title, config)
    site.import_tasks(project, *(f"http://pictures.example/{i}.jpg" for i in range(NUM_TASKS)))
    return project, list(site.client.tasks(project.id))


def deliver(store: MemoryStore, client: PredictionsClient, rounds: int = 1) -> Delivery:
    delivery = Delivery(store, lambda: client, make_prediction)

    async def go() -> None:
        for _ in range(rounds):
            await delivery.deliver_due()

    asyncio.run(go())
    return delivery


def stored(site: Site, project: Project) -> Counter[int]:
    return Counter(p.task_id for p in site.client.predictions(project.id) if p.model_version == VERSION)


@pytest.mark.parametrize("kind", ["legacy token", "personal access token"])
def test_thirty_tasks_of_which_one_is_deleted_and_one_predicted(site: Site, kind: str) -> None:
    project, tasks = new_project(site, f"Delivery with a {kind}")
    store = MemoryStore()
    store.recipes["r1"] = Recipe(project.label_config)
    token = site.personal_token if "personal" in kind else site.server.api_key
    with PredictionsClient(site.server.url, token) as client:
        client.check_token()
        current = client.current_project(project.id)
        assert current is not None
        deleted, in_reply, lost_reply = tasks[3], tasks[4], tasks[5]
        store.add(current.uid, [in_reply, lost_reply], state="returned")
        store.add(current.uid, [task for task in tasks if task not in (in_reply, lost_reply)])
        saved = make_prediction(store.works[1], "")
        assert client.import_predictions(project.id, [{"task": in_reply, **saved}]) == 1
        annotation = {"from_name": "caption", "to_name": "image", "type": "textarea", "value": {"text": ["人工"]}}
        site.call("POST", f"/api/tasks/{tasks[6]}/annotations", json={"result": [annotation]})
        site.call("DELETE", f"/api/tasks/{deleted}")

        delivery = deliver(store, client)

        assert stored(site, project) == {task: 1 for task in tasks if task != deleted}
        assert store.states()[deleted] == "task_deleted"
        assert {state for task, state in store.states().items() if task != deleted} == {"delivered"}
        assert delivery.status.num_delivered == NUM_TASKS - 1
        [kept] = site.client.annotations(tasks[6])
        assert kept.regions[0]["value"] == {"text": ["人工"]}

        # once more, as after a crash that forgot everything: nothing is doubled
        again = MemoryStore(recipes=store.recipes)
        again.add(current.uid, tasks, state="returned")
        deliver(again, client)
        assert set(stored(site, project).values()) == {1}


def test_what_does_not_fit_and_what_is_gone_is_told_apart(site: Site) -> None:
    project, tasks = new_project(site, "Delivery of misfits")
    with PredictionsClient(site.server.url, site.server.api_key) as client:
        current = client.current_project(project.id)
        assert current is not None
        store = MemoryStore()
        store.recipes |= {"r1": Recipe(project.label_config), "old": Recipe(ready_made("ecommerce.en"))}
        store.add(current.uid, tasks[:10])
        store.add(current.uid, tasks[10:12], recipe="old")
        store.add("987654.1700000000", [1])
        misfit = tasks[2]

        def sometimes_wrong(work: Any, content: str) -> dict[str, Any]:
            made = make_prediction(work, content)
            if work.task_id == misfit:
                made["result"][0] |= {"from_name": "nobody"}
            return made

        delivery = Delivery(store, lambda: client, sometimes_wrong)
        asyncio.run(delivery.deliver_due())
        states = store.states()
        assert states[misfit] == "rejected"
        assert [states[task] for task in tasks[10:12]] == ["config_changed"] * 2
        assert states[1] == "project_deleted"
        assert stored(site, project) == {task: 1 for task in tasks[:10] if task != misfit}

        site.call("DELETE", f"/api/projects/{project.id}")
        assert client.current_project(project.id) is None
        with pytest.raises(CallFailed) as caught:
            client.import_predictions(project.id, [{"task": tasks[0], **make_prediction(store.works[1], "")}])
        assert caught.value.kind == "not_found"


def test_a_wrong_token_is_refused_as_such(site: Site) -> None:
    with PredictionsClient(site.server.url, "b" * 40) as client, pytest.raises(CallFailed) as caught:
        client.check_token()
    assert caught.value.kind == "unauthorized"
