"""Which addresses reach the disk, and what becomes of work whose address does not."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from backend.predict.task import TaskInput
from backend.queue.held_tasks import (
    INSTANT_CHARS,
    PART_CHARS,
    TASK_BYTES,
    DiskAddresses,
    HeldTasks,
    for_disk,
    is_withheld,
)
from backend.store import Store
from tests.backend.gate import GateEngine
from tests.backend.serving import ANSWER, serving, task
from tests.backend.store.given import RECIPE, accepted
from tests.backend.store.given import task as row
from tests.fakes import FakeEngine
from tests.limits import until

SIGNED = "https://oss.example/1.jpg?Expires=1700000000&OSSAccessKeyId=c4n4ry&Signature=c4n4ry"


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example/1.jpg",
        "https://oss.example/1.jpg?x-oss-process=image/resize,w_800",
        "https://shop.example/1.jpg?v=2&size=large#top",
        "/data/local-files/?d=pictures/" + "a-long-folder-name-that-means-nothing/" * 3 + "1.jpg",
        "/tasks/12/resolve/?fileuri=czM6Ly9idWNrZXQvZm9sZGVyL3N1YmZvbGRlci9waWN0dXJlLmpwZw==",
        "/data/upload/12/1.jpg",
        "s3://bucket/1.jpg",
        "https://shop.example/?" + "&" * 8_000,
    ],
)
def test_an_address_without_a_key_is_stored_as_it_is(url: str) -> None:
    assert for_disk(url) == url


@pytest.mark.parametrize(
    ("url", "stored"),
    [
        (SIGNED, "https://oss.example/1.jpg#withheld"),
        ("https://cdn.example/a.jpg?auth_key=1700000000-0-0-7d4e3f", "https://cdn.example/a.jpg#withheld"),
        ("https://c.example/a.jpg?hdnts=exp=1~acl=/*~hmac=abcdef", "https://c.example/a.jpg#withheld"),
        ("https://c.example/a.jpg?%73ig=abcdef", "https://c.example/a.jpg#withheld"),
        ("https://c.example/a.jpg?x=eyJhbGciOi.eyJzdWIi.c2ln", "https://c.example/a.jpg#withheld"),
        ("https://c.example/a.jpg?x=0123456789abcdef0123456789", "https://c.example/a.jpg#withheld"),
        ("https://c.example/a.jpg?pwd=hunter2", "https://c.example/a.jpg#withheld"),
        ("https://c.example/a.jpg#token=b", "https://c.example/a.jpg#withheld"),
        ("https://c.example/a.jpg?a=1#token=b", "https://c.example/a.jpg#withheld"),
        ("https://user:pw@c.example/a.jpg", "https://c.example/a.jpg#withheld"),
        ("//user@c.example/a.jpg?v=1", "https://c.example/a.jpg#withheld"),
        ("https:\\\\user:pw@c.example\\a.jpg", "https://c.example/a.jpg#withheld"),
        (" https://c.example/a.jpg?x=1&amp;token=b\n", "https://c.example/a.jpg#withheld"),
        ("s3://bucket/1.jpg?v=1", "s3://bucket/1.jpg#withheld"),
    ],
)
def test_a_key_in_an_address_is_not_stored(url: str, stored: str) -> None:
    assert for_disk(url) == stored
    assert is_withheld(stored)


@pytest.mark.parametrize(
    "letter", [pytest.param("a", id="ASCII"), pytest.param("衣", id="Chinese"), pytest.param("👗", id="emoji")]
)
def test_what_is_held_has_an_end_in_bytes(letter: str) -> None:
    held = HeldTasks(max_bytes=1_000_000)
    url = f"https://x/{letter * 8_000}?key=1"
    tasks = {number: TaskInput(number, url + str(number)) for number in range(200)}
    with Store.in_memory() as store:
        store.save_recipe(RECIPE, 0.0)
        stored = [row(number, url=f"https://x/{number}#withheld") for number in tasks]
        works = accepted(store, stored)
    held.hold(stored, tasks)
    kept = [work for work in works if held.whole(work) == tasks[work.task_id]]
    assert kept == works[-len(kept) :]
    assert len(kept) == 1_000_000 // (TASK_BYTES + sys.getsizeof(tasks[150].image_url))


def test_only_the_newest_addresses_are_held() -> None:
    held = HeldTasks(max_bytes=2 * (TASK_BYTES + sys.getsizeof("https://x/0?key=1")))
    with Store.in_memory() as store:
        store.save_recipe(RECIPE, 0.0)
        stored = [row(number, url=f"https://x/{number}#withheld") for number in range(3)]
        works = accepted(store, [*stored, row(7, url="https://x/7")])
    tasks = {number: TaskInput(number, f"https://x/{number}?key=1") for number in range(3)}
    held.hold(stored, tasks)
    assert held.whole(works[0]) == TaskInput(0, "https://x/0#withheld")
    assert held.whole(works[2]) == tasks[2]
    held.forget([works[2]], {2: TaskInput(2, "https://x/2?key=1")})
    assert held.whole(works[2]) == tasks[2], "it was asked for again meanwhile"
    held.forget([works[2]], tasks)
    assert is_withheld(held.whole(works[2]).image_url)
    assert held.whole(works[3]) == TaskInput(7, "https://x/7")


def test_a_picture_behind_a_key_is_done_after_the_deadline_and_its_key_stays_off_the_disk(tmp_path: Path) -> None:
    engine = GateEngine()
    with serving(tmp_path, engine) as server:
        late = server.predict_late(task(1, SIGNED), task(2), when=lambda: engine.num_asked == 2)
        assert late.json()["results"] == [[], []]
        engine.open()
        until(lambda: engine.num_done == 2)
        assert SIGNED in server.images.fetched
        until(lambda: server.client.get("/status.json").json()["projects"][0]["num_done"] == 2)
        on_disk = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert b"c4n4ry" not in on_disk
        assert b"https://oss.example/1.jpg" in on_disk


def test_after_a_restart_a_picture_behind_a_key_has_to_be_asked_for_again(tmp_path: Path) -> None:
    engine = GateEngine()
    with serving(tmp_path, engine, stop_s=2) as server:
        server.predict_late(task(1, SIGNED), task(2), when=lambda: engine.num_asked == 2)
    with serving(tmp_path, FakeEngine(ANSWER)) as server:
        until(lambda: server.client.get("/status.json").json()["projects"][0]["failures"] == {"address_withheld": 1})
        assert server.predict(task(1, SIGNED)).json()["results"][0]["result"]


SLOW = "http" + "://a" * 2_000
"""Takes a hundred times as long as another address of its length."""


def _asked(*requests: Sequence[str | None]) -> list[int]:
    """Ask for all at once. Which of them ended, in order."""
    ended: list[int] = []

    async def ask(addresses: DiskAddresses, number: int) -> None:
        urls = requests[number]
        found = await addresses.of([TaskInput(n, url) for n, url in enumerate(urls)])
        assert found == [None if url is None else for_disk(url) for url in urls]
        ended.append(number)

    async def ask_all() -> None:
        addresses = DiskAddresses()
        await asyncio.gather(*(ask(addresses, number) for number in range(len(requests))))

    asyncio.run(ask_all())
    return ended


def test_long_addresses_neither_stop_the_loop_nor_keep_other_requests_waiting() -> None:
    short, many = [SIGNED, None, "https://a.example/1.jpg"], ["https://a.example/1.jpg"] * (INSTANT_CHARS // 20)
    assert PART_CHARS > sum(map(len, many)) > INSTANT_CHARS
    assert _asked([SLOW] * 20, short, many, []) == [1, 3, 2, 0]
