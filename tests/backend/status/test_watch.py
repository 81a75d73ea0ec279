"""The checks of a running backend: when they are made again, and that the backend waits for none of them."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from backend.engine.api import EngineStatus
from backend.status.check import Check, bad, doubtful, good
from backend.status.watch import Watch, WatchPace
from tests.backend.fake_label_studio import LEGACY_KEY, fake_label_studio
from tests.backend.serving import ANSWER, serving
from tests.fakes import READY, FakeEngine
from tests.limits import eventually, until

NEVER_S = 10**9
GOOD = good("token", "token_good", user="a@example.com")
REFUSED = bad("token", "token_refused")


class Looks:
    """What each look finds, the last one again and again."""

    def __init__(self, *found: Check | Exception) -> None:
        self.found = found
        self.num = 0

    def __call__(self) -> list[Check]:
        check = self.found[min(self.num, len(self.found) - 1)]
        self.num += 1
        if isinstance(check, Exception):
            raise check
        return [check]


def watching(watch: Watch, condition: Callable[[], object]) -> None:
    async def run() -> None:
        watch.start()
        try:
            await eventually(condition)
        finally:
            watch.stop()

    asyncio.run(run())


def test_a_failing_check_is_made_again_soon_and_a_good_one_is_left(caplog: pytest.LogCaptureFixture) -> None:
    looks = Looks(REFUSED, REFUSED, GOOD)
    watch = Watch(looks, WatchPace(period_s=NEVER_S, soon_s=0.0))
    with caplog.at_level(logging.INFO):
        watching(watch, lambda: watch.checks == (GOOD,))
    assert looks.num == 3
    told = [record.getMessage() for record in caplog.records if record.name == "backend.status.watch"]
    assert len(told) == 2, "what has not changed is told once"
    assert told[0].startswith("check of API key: Label Studio does not accept LABEL_STUDIO_API_KEY. Make a new one")
    assert told[1] == "check of API key: right again"


def test_it_looks_again_after_its_period_and_when_it_is_woken() -> None:
    hourly = Looks(GOOD)
    watching(Watch(hourly, WatchPace(period_s=0.0)), lambda: hourly.num >= 3)
    woken = Looks(GOOD, REFUSED)
    watch = Watch(woken, WatchPace(period_s=NEVER_S, soon_s=NEVER_S))

    def refused_after_waking() -> bool:
        if watch.checks == (GOOD,):
            watch.wake()
        return watch.checks == (REFUSED,)

    watching(watch, refused_after_waking)


def test_a_look_that_breaks_is_not_the_last(caplog: pytest.LogCaptureFixture) -> None:
    looks = Looks(RuntimeError("a fault of ours"), GOOD)
    watch = Watch(looks, WatchPace(period_s=0.0, soon_s=0.0))
    watching(watch, lambda: watch.checks == (GOOD,))
    assert "the checks could not be made" in caplog.text


def test_the_backend_starts_and_stops_while_a_look_hangs() -> None:
    release, begun = threading.Event(), threading.Event()

    def hangs() -> list[Check]:
        begun.set()
        release.wait()
        return []

    watch = Watch(hangs)
    try:
        watching(watch, begun.is_set)
    finally:
        release.set()
    assert watch.checks == ()


def test_a_refused_key_is_red_on_the_page_in_both_languages_and_in_health_before_its_first_use(tmp_path: Path) -> None:
    with (
        fake_label_studio() as server,
        serving(
            tmp_path, watch=WatchPace(), model="garments", label_studio_url=server.url, label_studio_api_key="b" * 40
        ) as backend,
    ):
        until(lambda: backend.client.get("/health").json().get("problems") == ["token_refused"])
        assert backend.client.get("/health").status_code == 200
        problems = backend.client.get("/status.json").json()["problems"]
        assert [(p["name"], p["verdict"], p["code"]) for p in problems] == [("token", "bad", "token_refused")]
        for language, words in (("zh", "Label Studio 不接受 LABEL_STUDIO_API_KEY"), ("en", "does not accept")):
            page = backend.client.get("/status", params={"lang": language}).text
            assert words in page
            assert 'class="note warn"' in page


def test_label_studio_may_start_after_the_backend(tmp_path: Path) -> None:
    with fake_label_studio() as server:
        server.refusals[("GET", "/api/version")] = (502, "Bad Gateway")
        access = {"label_studio_url": server.url, "label_studio_api_key": LEGACY_KEY, "model": "garments"}
        with serving(tmp_path, watch=WatchPace(period_s=NEVER_S, soon_s=0.1), **access) as backend:
            until(lambda: backend.client.get("/health").json().get("problems") == ["address_error"])
            del server.refusals[("GET", "/api/version")]
            until(lambda: "problems" not in backend.client.get("/health").json())


def test_what_makes_the_engine_slower_is_told_as_long_as_it_does(tmp_path: Path) -> None:
    """The hour's checks were made while it loaded, and it may start again without what it had."""
    slower = (("slow_kernels", "no C compiler"), ("slow_graphs", "CUDA error: operation not permitted"))
    engine = FakeEngine(ANSWER)
    engine.status = EngineStatus("loading")
    nobody = {"label_studio_url": "http://127.0.0.1:9", "label_studio_api_key": LEGACY_KEY, "model": "garments"}
    with serving(tmp_path, engine, watch=WatchPace(soon_s=NEVER_S), **nobody) as server:
        until(lambda: server.client.get("/health").json().get("problems"), "the first look")
        engine.status = EngineStatus("ready", ready=replace(READY, device="cuda:0", slower=slower))
        until(lambda: {"slow_kernels", "slow_graphs"} <= {*server.client.get("/health").json().get("problems", ())})
        said = server.client.get("/status").text
        counted = server.client.get("/metrics").text
        for state, slower_now in (("restarting", ()), ("ready", (("slow_linears", "off by 0.98 of the norm"),))):
            ready = replace(READY, device="cuda:0", slower=slower_now)
            engine.status = EngineStatus(state, ready=ready if state == "ready" else None)
            problems = server.client.get("/health").json()["problems"]
            assert [code for code in problems if code.startswith("slow")] == [code for code, _ in slower_now]
    assert {line for line in counted.splitlines() if line.startswith("prelabel_engine_slower")} == {
        'prelabel_engine_slower{what="slow_kernels"} 1.0', 'prelabel_engine_slower{what="slow_graphs"} 1.0',
    }  # fmt: skip
    assert "no C compiler" in said
    assert "operation not permitted" in said


def test_two_things_about_one_card_are_each_told_once(caplog: pytest.LogCaptureFixture) -> None:
    looks = 0

    def look() -> list[Check]:
        nonlocal looks
        looks += 1
        return [doubtful("card", "slow_graphs", said="a"), doubtful("card", "slow_linears", said="b")]

    async def test() -> None:
        watch = Watch(look, WatchPace(period_s=NEVER_S))
        watch.start()
        for count in (1, 2, 3):
            await eventually(lambda: looks >= count, "a look")  # noqa: B023
            watch.wake()
        watch.stop()

    asyncio.run(test())
    assert caplog.text.count("slower than it should be") == 2
