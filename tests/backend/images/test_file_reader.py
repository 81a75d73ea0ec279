"""Many files in few threads: each gets its own result, and one that hangs holds up only itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backend.engine.messages import Picture
from backend.errors import ImageError
from backend.images.decode import FetchedImage
from backend.images.file_reader import MAX_AT_ONCE, PATIENCE_S, FileReader
from tests.limits import WAIT_S, eventually

NAMES = [f"{number}.png" for number in range(5 * MAX_AT_ONCE + 3)]


class Disk:
    """Reads any name; "bad" is no picture, "hang" waits for `go_on`. Remembers the order and how many at once."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.read: list[str] = []
        self.most_at_once = 0
        self._num_at_once = 0
        self._lock = threading.Lock()

    def __call__(self, path: Path) -> FetchedImage:
        with self._lock:
            self._num_at_once += 1
            self.most_at_once = max(self.most_at_once, self._num_at_once)
            self.read.append(path.name)
        try:
            if "bad" in path.name:
                raise ImageError("corrupt", f"{path.name} is no picture.")
            if "hang" in path.name:
                self.go_on.wait(WAIT_S)
            return FetchedImage(Picture(1, 1, b"abc"), sha256=path.name)
        finally:
            with self._lock:
                self._num_at_once -= 1


def run(
    disk: Disk,
    test: Callable[[FileReader], Awaitable[None]],
    num_threads: int = 2,
    patience_s: float = PATIENCE_S,
) -> None:
    async def go() -> None:
        with ThreadPoolExecutor(num_threads) as threads:
            try:
                await test(FileReader(threads, num_threads, disk, patience_s))
            finally:
                disk.go_on.set()

    asyncio.run(go())


async def read_all(reader: FileReader, names: list[str]) -> list[str]:
    found = await asyncio.gather(*(reader.read(Path(name), WAIT_S) for name in names))
    return [picture.sha256 for picture in found]


@pytest.mark.parametrize("num", [1, 2, MAX_AT_ONCE, MAX_AT_ONCE + 1, len(NAMES)])
def test_each_file_gets_its_own_picture(num: int) -> None:
    async def test(reader: FileReader) -> None:
        assert await read_all(reader, NAMES[:num]) == NAMES[:num]

    run(Disk(), test)


def test_a_file_that_is_no_picture_fails_alone() -> None:
    async def test(reader: FileReader) -> None:
        names = ["a", "bad 1", "b", "bad 2", "c"]
        found = await asyncio.gather(*(reader.read(Path(name), WAIT_S) for name in names), return_exceptions=True)
        assert [type(result) for result in found] == [FetchedImage, ImageError, FetchedImage, ImageError, FetchedImage]
        assert "bad 2" in str(found[3])

    run(Disk(), test)


@pytest.mark.parametrize("num", [1, len(NAMES)], ids=["a few", "many"])
def test_a_file_that_hangs_holds_up_only_itself(num: int) -> None:
    disk = Disk()

    async def test(reader: FileReader) -> None:
        hanging = asyncio.create_task(reader.read(Path("hang"), WAIT_S))
        await eventually(lambda: disk.read == ["hang"])
        assert await read_all(reader, NAMES[:num]) == NAMES[:num]
        assert not hanging.done()
        hanging.cancel()

    run(disk, test)


def test_what_a_thread_has_done_before_it_hangs_is_there_for_those_who_wait() -> None:
    async def test(reader: FileReader) -> None:
        first, second, hanging = (asyncio.create_task(reader.read(Path(name), WAIT_S)) for name in ("a", "b", "hang"))
        assert [(await first).sha256, (await second).sha256] == ["a", "b"]
        assert not hanging.done()
        hanging.cancel()

    run(Disk(), test, num_threads=1)


def test_when_all_threads_hang_every_file_has_its_time_and_no_more() -> None:
    async def test(reader: FileReader) -> None:
        names = ["hang 1", "hang 2", *NAMES]
        found = await asyncio.gather(*(reader.read(Path(name), 0.5) for name in names), return_exceptions=True)
        assert {type(result) for result in found} == {TimeoutError}

    run(Disk(), test)


def test_a_file_that_nobody_waits_for_any_more_is_not_read() -> None:
    disk = Disk()

    async def test(reader: FileReader) -> None:
        hanging = asyncio.create_task(reader.read(Path("hang"), WAIT_S))
        await eventually(lambda: disk.read == ["hang"])
        given_up = asyncio.create_task(reader.read(Path("a"), WAIT_S))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        disk.go_on.set()
        await hanging
        await reader.read(Path("b"), WAIT_S)
        assert disk.read == ["hang", "b"]

    run(disk, test, num_threads=1)


def test_several_threads_are_used_only_for_many_files() -> None:
    few, many = Disk(), Disk()

    async def read_few(reader: FileReader) -> None:
        await read_all(reader, NAMES[:MAX_AT_ONCE])

    run(few, read_few, patience_s=WAIT_S)
    assert few.most_at_once == 1
    many_names = ["hang", *NAMES]

    async def read_many(reader: FileReader) -> None:
        reading = asyncio.create_task(read_all(reader, many_names))
        await eventually(lambda: len(many.read) == len(many_names))
        many.go_on.set()
        await reading

    run(many, read_many)
    assert many.most_at_once == 2


def test_threads_that_end_leave_nobody_waiting() -> None:
    async def go() -> None:
        disk, threads = Disk(), ThreadPoolExecutor(1)
        reader = FileReader(threads, 1, disk)
        reading = [asyncio.create_task(reader.read(Path(name), WAIT_S)) for name in ("hang", "a")]
        await eventually(lambda: disk.read == ["hang"])
        other = FileReader(threads, 1, disk)
        waiting = asyncio.create_task(other.read(Path("b"), WAIT_S))
        await asyncio.sleep(0)
        threads.shutdown(wait=False, cancel_futures=True)
        with pytest.raises(asyncio.CancelledError):
            await waiting
        disk.go_on.set()
        await asyncio.gather(*reading)

    asyncio.run(go())
