"""What projects share when their pictures are fetched: nobody waits for all that another has asked for."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from backend.errors import ImageError
from backend.fair_turns import FairTurns
from backend.images import FetchedImage, ImageFetcher
from backend.images.decode import decode
from backend.images.decoding import DecodingThreads
from tests.backend.images.conftest import PATIENT, everything_is_loopback, policy
from tests.backend.images.pictures import png
from tests.backend.images.site import Site, reply, silence
from tests.limits import WAIT_S, eventually


class Time:
    """A clock that only the test moves, and turns of `num` things whose order is noted."""

    def __init__(self, num: int = 1) -> None:
        self.now = 0.0
        self.order: list[str] = []
        self.num = num
        self.turns = FairTurns(clock=lambda: self.now)

    async def take(self, project: str, takes_s: float) -> None:
        end = await self.turns.begin(project, lambda: [("thing", self.num)])
        self.order.append(project)
        self.now += takes_s
        await asyncio.sleep(0)
        end()


def test_projects_share_the_time_and_not_the_number_of_turns() -> None:
    async def run() -> None:
        time = Time()
        slow = [asyncio.create_task(time.take("slow", 10)) for _ in range(20)]
        quick = [asyncio.create_task(time.take("quick", 1)) for _ in range(20)]
        await asyncio.gather(*quick)
        assert time.order.count("slow") <= 4
        await asyncio.gather(*slow)
        assert time.order.count("slow") == 20

    asyncio.run(run())


def test_of_several_turns_a_project_that_holds_none_gets_the_next() -> None:
    async def run() -> None:
        turns = FairTurns(clock=lambda: 0.0)
        ends = [await turns.begin("many", lambda: [("thing", 3)]) for _ in range(3)]
        waiting = [asyncio.create_task(turns.begin("many", lambda: [("thing", 3)])) for _ in range(5)]
        one = asyncio.create_task(turns.begin("one", lambda: [("thing", 3)]))
        await asyncio.sleep(0)
        ends.pop()()
        (await one)()
        for task in waiting:  # all get theirs in the end
            ends.append(await task)
            ends.pop(0)()

    asyncio.run(run())


@pytest.mark.parametrize("when", ["before its turn", "in the moment of its turn"])
def test_a_turn_is_not_lost_with_who_is_cancelled(when: str) -> None:
    async def run() -> None:
        turns = FairTurns()
        end = await turns.begin("a", lambda: [("thing", 1)])
        gone = asyncio.create_task(turns.begin("b", lambda: [("thing", 1)]))
        stays = asyncio.create_task(turns.begin("c", lambda: [("thing", 1)]))
        await asyncio.sleep(0)
        if when == "before its turn":
            gone.cancel()
            await asyncio.sleep(0)
        end()
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        (await asyncio.wait_for(stays, WAIT_S))()

    asyncio.run(run())


def test_who_waits_for_one_thing_holds_none_of_another() -> None:
    async def run() -> None:
        turns = FairTurns()
        end_host = await turns.begin("a", lambda: [("host", 1), ("any", 2)])
        waits = asyncio.create_task(turns.begin("a", lambda: [("host", 1), ("any", 2)]))
        await asyncio.sleep(0)
        (await turns.begin("b", lambda: [("other host", 1), ("any", 2)]))()
        end_host()
        (await waits)()

    asyncio.run(run())


def test_a_thread_whose_picture_nobody_waits_for_is_not_free_before_it_has_ended() -> None:
    """Else the next of its project would be handed to it, and stand before all others."""
    begun, gate, order = threading.Event(), threading.Event(), []

    def work(name: str) -> FetchedImage:
        begun.set()
        gate.wait(WAIT_S)
        order.append(name)
        return decode(png(), PATIENT)

    async def run() -> None:
        threads = DecodingThreads(1)
        gone = asyncio.create_task(threads.run("a", partial(work, "a, given up"), WAIT_S))
        await eventually(begun.is_set)
        gone.cancel()
        later = [asyncio.create_task(threads.run(name, partial(work, name), WAIT_S)) for name in ("a", "b")]
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*later)
        threads.close()

    asyncio.run(run())
    assert order == ["a, given up", "b", "a"]


def inline(number: int) -> str:
    return "data:image/png;base64," + base64.b64encode(png() + b"%d" % number).decode()


@pytest.mark.parametrize("interactive", [False, True])
def test_a_picture_is_decoded_before_most_of_what_another_project_asked_for_first(interactive: bool) -> None:
    async def run() -> None:
        fetcher = ImageFetcher(policy(limits=replace(PATIENT, decode_threads=1)))

        def fetch(number: int, project: str) -> asyncio.Task[FetchedImage]:
            return asyncio.create_task(fetcher.fetch(inline(number), project=project, interactive=interactive))

        many = [fetch(number, "many") for number in range(40)]
        await fetch(40, "one")
        assert sum(task.done() for task in many) <= 3
        await asyncio.gather(*many)
        await fetcher.aclose()

    asyncio.run(run())


def one_host(number: int) -> str:
    return "slow.example.com"


def many_hosts(number: int) -> str:
    return f"slow{number}.example.com"


@pytest.mark.parametrize(
    ("host", "of_the_other"),
    [(many_hosts, "new.example.com"), (one_host, "new.example.com"), (one_host, one_host(0))],
    ids=["many hosts", "one host", "a host of both"],
)
@pytest.mark.parametrize("interactive", [False, True])
def test_a_project_whose_hosts_never_answer_holds_up_no_other(
    site: Site, other_site: Site, host: Callable[[int], str], of_the_other: str, interactive: bool
) -> None:
    other_site.routes["/a.png"] = silence()
    site.routes["/a.png"] = reply(png())
    limits = replace(PATIENT, max_total=8, max_unproven=8)

    async def run() -> None:
        fetcher = ImageFetcher(policy(limits=limits), resolver=everything_is_loopback)
        slow = [
            asyncio.create_task(
                fetcher.fetch(other_site.url(f"/a.png?{n}", host(n)), project="slow", interactive=interactive)
            )
            for n in range(20)
        ]
        held = limits.max_per_host if host is one_host else limits.most_of_one_project(limits.max_total)
        await eventually(lambda: len(other_site.requests) == held)
        await fetcher.fetch(site.url("/a.png", of_the_other), project="other", interactive=interactive)
        assert other_site.most_at_once == held
        assert not any(task.done() for task in slow)
        await fetcher.aclose()
        outcomes = await asyncio.gather(*slow, return_exceptions=True)
        assert all(isinstance(outcome, ImageError) for outcome in outcomes)

    asyncio.run(run())
