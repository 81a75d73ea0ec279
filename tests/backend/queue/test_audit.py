"""The blind audit over HTTP: whichever way Label Studio asks, a withheld task gets nothing, and its answer is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backend.store import Store
from backend.store.serving import FILE_NAME
from tests.backend.gate import GateEngine
from tests.backend.serving import ANSWER, Server, predict_body, serving, setup_body, task
from tests.fakes import FakeEngine
from tests.limits import TEST_S, until

PROJECT = "12.1700000000"
TASKS = range(1, 25)
Results = list[Any]


def set_up(server: Server, **extra_params: Any) -> list[str]:
    """What it warns of, of the audit."""
    reply = server.client.post("/setup", json=setup_body(extra_params=extra_params)).json()
    return [warning for warning in reply["warnings"] if "audit_share" in warning]


def withheld(data_dir: Path, share: float = 0.5) -> set[int]:
    """As the store decides."""
    with Store.beside(data_dir / FILE_NAME, 0.0) as store:
        chosen = store.withheld_tasks(PROJECT, TASKS, share)
    assert 0 < len(chosen) < len(TASKS)
    return chosen


def shown(results: Results) -> set[int]:
    """The tasks that got an answer; each of the others got the empty form of its kind."""
    assert all(result["result"] for result in results if result and result != {"result": []})
    return {number for number, result in zip(TASKS, results, strict=True) if result and result["result"]}


def one_by_one(server: Server, **params: Any) -> Results:
    return [server.predict(task(number), **params).json()["results"][0] for number in TASKS]


def a_click(server: Server) -> Results:
    results: Results = server.predict(*(task(number) for number in TASKS)).json()["results"]
    return results


def a_click_again(server: Server) -> Results:
    a_click(server)
    server.time.put_forward(2 * TEST_S)
    return a_click(server)


def drawn_before_anything_was_asked(server: Server) -> Results:
    return one_by_one(server, context={"result": []})


def drawn_in_an_opened_task(server: Server) -> Results:
    a_click(server)
    return one_by_one(server, context={"result": []})


def after_a_setup_that_says_nothing(server: Server) -> Results:
    """As Label Studio calls it when a title is changed."""
    a_click(server)
    server.client.post("/setup", json=setup_body(extra_params=None))
    server.time.put_forward(2 * TEST_S)
    return a_click(server)


WAYS: dict[str, Callable[[Server], Results]] = {
    "a click on several": a_click,
    "the same click again": a_click_again,
    "each task opened": one_by_one,
    "a person draws in each": drawn_before_anything_was_asked,
    "a person draws in each, after a click": drawn_in_an_opened_task,
    "a setup in between": after_a_setup_that_says_nothing,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_whichever_way_label_studio_asks_a_withheld_task_gets_nothing(
    tmp_path: Path, way: Callable[[Server], Results]
) -> None:
    with serving(tmp_path) as server:
        set_up(server, audit_share=0.5)
        assert shown(way(server)) == set(TASKS) - withheld(tmp_path)
        assert server.metric("prelabel_task_failures_total") == 0, "it is no failure"


def test_the_answer_is_computed_kept_and_counted_as_withheld(tmp_path: Path) -> None:
    engine = FakeEngine(ANSWER)
    with serving(tmp_path, engine) as server:
        set_up(server, audit_share=0.5)
        a_click(server)
        num = len(withheld(tmp_path))
        assert len(engine.requests) == len(TASKS)
        [project] = server.client.get("/status.json").json()["projects"]
        assert (project["num_withheld"], project["num_returned"]) == (num, len(TASKS) - num)
        assert (project["num_answered"], project["num_failed"], project["num_queued"]) == (len(TASKS), 0, 0)
        assert project["progress"] == 1.0
        assert server.metric("prelabel_work", state="withheld") == num
    with serving(tmp_path, again := FakeEngine(ANSWER)) as server:
        assert set_up(server, audit_share=0) == []
        server.time.put_forward(2 * TEST_S)
        assert shown(a_click(server)) == set(TASKS), "it ended, and what was kept is shown"
        assert again.requests == []


def test_who_waits_hears_at_once_that_a_task_is_withheld(tmp_path: Path) -> None:
    engine = GateEngine()
    with serving(tmp_path, engine) as server:
        set_up(server, audit_share=0.5)
        with server.asked(predict_body(*(task(number) for number in TASKS))):
            until(lambda: engine.num_asked > 0)
        engine.open()
        assert shown(a_click(server)) == set(TASKS) - withheld(tmp_path)


def test_pictures_that_cannot_be_kept_are_not_audited(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        set_up(server, audit_share=0.5)
        inline = [task(number, f"data:image/png;base64,{number:04}") for number in TASKS]
        assert shown(server.predict(*inline).json()["results"]) == set(TASKS)


def test_without_a_key_for_label_studio_setup_says_that_nothing_is_ever_let_go(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        [warning] = set_up(server, audit_share=0.05)
        assert "LABEL_STUDIO_API_KEY" in warning
        assert "audit_share is 0" in warning


@pytest.mark.parametrize("content", [None, "{", "{}"], ids=["no file", "half a file", "an empty file"])
def test_a_file_that_is_lost_ends_no_audit(tmp_path: Path, content: str | None) -> None:
    with serving(tmp_path, FakeEngine(ANSWER)) as server:
        set_up(server, audit_share=0.5)
        first = a_click(server)
    kept, file = withheld(tmp_path), tmp_path / "projects.json"
    file.unlink()
    if content is not None:
        file.write_text(content)
    with serving(tmp_path, FakeEngine(ANSWER)) as server:
        assert shown(first) == set(TASKS) - kept
        assert not shown(one_by_one(server)) & kept
