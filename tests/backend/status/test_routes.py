"""The pages over real HTTP, with a real store: who may press the buttons, and what they do."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from backend.api.status_pages import StatusPages, chosen_language
from backend.delivery.loop import DeliveryStatus
from backend.delivery.tabs import ReviewLeft
from backend.delivery.upkeep import Known, Note
from backend.engine.api import EngineStatus
from backend.metrics import Metrics
from backend.status.gauges import metrics_text
from backend.store import WorkState
from tests.backend.status.rig import HOSTILE, NOW, BusyStore, Site, finished, queued, status_site
from tests.limits import WAIT_S, eventually

PROJECT = "12.1700000000"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with status_site(tmp_path) as site:
        yield site


def failed_and_queued(site: Site) -> None:
    works = queued(site.store, PROJECT, range(1, 7))
    for work in works[:2]:
        site.store.fail(work.id, "image_timeout", "slow", NOW)
    finished(site.store, works[2:3])


@pytest.fixture(autouse=True)
def _earlier_predictions(site: Site) -> None:
    site.upkeep.known = {PROJECT: Known(num_stale=3)}


def form(site: Site, action: str, **changes: str) -> dict[str, str]:
    """The fields of a button, as the page has them."""
    found = re.search(rf'action="status/{action}".*?</form>', site.page())
    assert found
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', found[0]))
    return fields | changes


def press(site: Site, action: str, headers: dict[str, str] | None = None, **changes: str) -> httpx.Response:
    chosen = {"origin": site.url, "sec-fetch-site": "same-origin"} if headers is None else headers
    return site.client.post(f"/status/{action}", data=form(site, action, **changes), headers=chosen)


def states(site: Site) -> dict[str, int]:
    return {state.value: count for state, count in site.store.summary()[0].states.items()}


def test_the_json_tells_what_the_store_holds(site: Site) -> None:
    failed_and_queued(site)
    document = site.json()
    assert document["speed"] == {"num_waiting": 3, "num_running": 0, "images_per_s": 3 / 60, "eta_s": 60.0}
    assert document["projects"][0]["failures"] == {"image_timeout": 2}
    assert [task["task_id"] for task in document["projects"][0]["failed_tasks"]] == [2, 1]
    assert document["delivery"]["mode"] == "reply"


def test_the_page_is_html_that_nobody_keeps(site: Site) -> None:
    reply = site.client.get("/status")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.headers["cache-control"] == "no-store"
    nonce = re.search(r"script-src 'nonce-([\w-]+)'", reply.headers["content-security-policy"])
    assert nonce
    assert f'<script nonce="{nonce[1]}">' in reply.text
    assert nonce[1] not in site.client.get("/status").text
    assert site.client.head("/status").content == b""


def test_the_script_gets_only_the_part_that_changes(site: Site) -> None:
    text = site.client.get("/status?part=live&lang=en").text
    assert text.startswith("<main")
    assert "<script" not in text


def test_retry_queues_again_what_failed_and_leads_back(site: Site) -> None:
    failed_and_queued(site)
    reply = press(site, "retry", lang="en")
    assert (reply.status_code, reply.headers["location"].partition("&")[0]) == (303, "../status?lang=en")
    assert states(site) == {"queued": 5, "done": 1}
    assert (site.num_woken, site.cancelled) == (1, []), "what is queued again is begun at once"
    said = "Project 12: 2 failed tasks were put back, to be tried again."
    address = reply.headers["location"].removeprefix("..")
    assert said in site.client.get(address).text
    assert said not in site.client.get(address + "&part=live").text
    assert said not in site.page("en")


@pytest.mark.parametrize(
    ("before", "after"), [("num=2", "num=3"), ("did=retry", "did=cancel"), ("project=12", "project=13"), ("token=", "")]
)
def test_what_a_button_did_is_not_said_of_a_link_that_someone_made(site: Site, before: str, after: str) -> None:
    failed_and_queued(site)
    address = press(site, "retry").headers["location"].removeprefix("..")
    assert 'id="did"' in site.client.get(address).text
    assert before in address
    assert 'id="did"' not in site.client.get(address.replace(before, after)).text


@pytest.mark.parametrize("token", ["%C3%A9", "%ed%a0%80", "%ff", "%00", "a" * 5_000])
def test_any_text_may_be_given_as_the_token_of_what_a_button_did(site: Site, token: str) -> None:
    reply = site.client.get(f"/status?did=retry&project=12&num=x&token={token}")
    assert reply.status_code == 200
    assert 'id="did"' not in reply.text


def test_cancel_keeps_what_is_done(site: Site) -> None:
    failed_and_queued(site)
    assert press(site, "cancel").status_code == 303
    assert states(site) == {"cancelled": 3, "done": 1, "failed": 2}
    assert (site.num_woken, site.cancelled) == (1, [PROJECT]), "who waits for it is told"


def test_earlier_predictions_are_deleted_only_by_the_button_that_says_how_many(site: Site) -> None:
    failed_and_queued(site)
    site.upkeep.known = {}
    assert "delete-older" not in site.page("en")
    note = Note("moved", NOW - 60, "garments-nf4-old")
    site.upkeep.known = {PROJECT: Known("Summer", 1_200, note)}
    page = site.page("en")
    assert "Delete 1,200 earlier predictions" in page
    assert "1 min ago: the model version chosen" in page
    assert "garments-nf4-old" in page
    assert press(site, "delete-older").status_code == 303
    assert site.deleted == [PROJECT]
    assert press(site, "delete-older", token="another").status_code == 403


@pytest.mark.parametrize("action", ["retry", "cancel", "delete-older"])
@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"sec-fetch-site": "none"},
        {"origin": "https://evil.example"}, {"origin": "null"}, {"origin": "http://[broken"}, {},
    ],
    ids=["another site", "a sister site", "typed", "another origin", "no origin's own", "no address", "neither header"],
)  # fmt: skip
def test_a_form_of_another_page_is_refused(site: Site, action: str, headers: dict[str, str]) -> None:
    failed_and_queued(site)
    before = states(site)
    reply = press(site, action, headers)
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "forbidden")
    assert (states(site), site.num_woken) == (before, 0)


def test_a_browser_that_sends_only_its_origin_is_believed(site: Site) -> None:
    failed_and_queued(site)
    assert press(site, "retry", {"origin": site.url}).status_code == 303


@pytest.mark.parametrize("token", ["", "0" * 64, "密"], ids=["none", "a wrong one", "no hex"])
def test_a_wrong_token_is_refused_with_the_next_step(site: Site, token: str) -> None:
    failed_and_queued(site)
    reply = press(site, "retry", token=token)
    assert reply.status_code == 403
    assert "Open the status page again" in reply.json()["error"]["message"]
    assert states(site)["failed"] == 2


def test_a_token_is_good_for_one_button_of_one_project_of_one_process(site: Site, tmp_path: Path) -> None:
    failed_and_queued(site)
    token = form(site, "retry")["token"]
    assert press(site, "cancel", token=token).status_code == 403
    assert press(site, "retry", project="13.1").status_code == 403
    (tmp_path / "other").mkdir()
    with status_site(tmp_path / "other") as other:
        failed_and_queued(other)
        assert press(other, "retry", token=token).status_code == 403


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b"{}", 415),
        ("application/x-www-form-urlencoded", b"project=1&project=2", 400),
        ("application/x-www-form-urlencoded", b"token=1", 400),
        ("application/x-www-form-urlencoded", b"project=%ff", 400),
        ("application/x-www-form-urlencoded", b"", 400),
        ("application/x-www-form-urlencoded", b"a&" * 10, 400),
        ("application/x-www-form-urlencoded", b"project=" + b"1" * 5000, 413),
    ],
    ids=["JSON", "a field twice", "no project", "not UTF-8", "empty", "no fields", "too long"],
)
def test_a_body_that_is_no_form_of_ours_is_refused(site: Site, content_type: str, body: bytes, status: int) -> None:
    headers = {"origin": site.url, "content-type": content_type}
    assert site.client.post("/status/retry", content=body, headers=headers).status_code == status


def test_a_hostile_project_can_be_cancelled_by_its_own_button(site: Site) -> None:
    queued(site.store, HOSTILE, [1])
    fields = {"project": HOSTILE, "token": form(site, "cancel")["token"], "lang": "zh"}
    reply = site.client.post("/status/cancel", data=fields, headers={"origin": site.url})
    assert reply.status_code == 303
    assert site.store.summary()[0].states == {WorkState.CANCELLED: 1}


def test_a_password_protects_the_pages(tmp_path: Path) -> None:
    with status_site(tmp_path, password="secret") as site:
        for method, path in [("GET", "/status"), ("GET", "/status.json"), ("POST", "/status/retry")]:
            reply = site.client.request(method, path)
            assert (reply.status_code, "www-authenticate" in reply.headers) == (401, True)
        assert site.client.get("/status", auth=("prelabel", "secret")).status_code == 200


def test_a_store_that_is_busy_is_503(site: Site) -> None:
    site.store = BusyStore()
    assert site.client.get("/status").status_code == 503


@pytest.mark.parametrize(
    ("asked", "accept", "language"),
    [
        (None, "", "zh"), (None, "zh-CN,zh;q=0.9,en;q=0.8", "zh"), (None, "en-GB,en;q=0.9,zh;q=0.8", "en"),
        (None, "de,en;q=0.5", "en"), (None, "de", "zh"), (None, "en;q=x", "zh"), ("en", "zh", "en"),
        ("zh", "en", "zh"), ("fr", "en", "en"), ("<script>", "", "zh"),
    ],
)  # fmt: skip
def test_the_language_is_asked_for_or_preferred(asked: str | None, accept: str, language: str) -> None:
    assert chosen_language(asked, accept) == language


async def _rendered(pages: StatusPages, status: EngineStatus) -> str:
    return metrics_text(Metrics().registry, status, await pages.view_or_none()).decode()


def test_the_gauges_tell_all_projects_together(site: Site) -> None:
    failed_and_queued(site)
    queued(site.store, "13.1", range(1, 5))
    site.delivery.status = DeliveryStatus(True, paused_until=NOW + 5)
    text = asyncio.run(_rendered(StatusPages(site), site.engine.status))
    lines = text.splitlines()
    for line in (
        'prelabel_work{state="queued"} 7.0', 'prelabel_work{state="done"} 1.0', 'prelabel_work{state="failed"} 2.0',
        'prelabel_work{state="delivered"} 0.0', "prelabel_delivery_failures 0.0", "prelabel_delivery_paused 1.0",
        "prelabel_images_per_second 0.05",
    ):  # fmt: skip
        assert line in lines
    assert PROJECT not in text


def test_gauges_of_a_store_that_cannot_be_read_are_not_stale(site: Site) -> None:
    site.store = BusyStore()
    text = asyncio.run(_rendered(StatusPages(site), site.engine.status))
    assert 'prelabel_work{state="queued"} NaN' in text
    assert "prelabel_engine_queued 0.0" in text


def test_what_many_ask_for_at_once_is_made_one_after_the_other(site: Site) -> None:
    gate, making = threading.Event(), list[str]()
    most = 0

    def begin(projects: Sequence[str]) -> None:
        nonlocal most
        making.append("a view")
        most = max(most, len(making))
        assert gate.wait(WAIT_S)

    def end(told: Mapping[str, int]) -> dict[str, ReviewLeft]:
        making.pop()
        return {}

    async def ask() -> None:
        pages = StatusPages(site)
        asked = [asyncio.create_task(pages.view()) for _ in range(8)]
        await eventually(lambda: making)
        for _ in range(100):
            await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*asked)

    site.gone, site.tabs = SimpleNamespace(look=begin), SimpleNamespace(left=end)
    asyncio.run(ask())
    assert most == 1
