"""The processes that decode: how each may end, and that nobody else notices."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from PIL import Image

from backend.errors import ImageError
from backend.images import Limits
from backend.images.apart import Decoders
from backend.images.decode import decode
from tests.backend.images.decoder_work import LIES, LIMITS, RIGHTS, SOON, work
from tests.backend.images.pictures import png, saved
from tests.backend.images.test_decode import FORMATS
from tests.limits import WAIT_S, until


@pytest.fixture
def decoders() -> Iterator[Decoders]:
    with closing(Decoders(LIMITS, work)) as decoders:
        yield decoders


def pid_of(decoders: Decoders) -> int:
    """Of the process that decodes next."""
    with pytest.raises(ImageError) as caught:
        decoders.decode(b"pid")
    return int(str(caught.value))


def runs(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_one_process_decodes_one_picture_after_the_other(decoders: Decoders) -> None:
    first = pid_of(decoders)
    fetched, decoded = decoders.decode(b"any"), decode(png(), LIMITS)
    assert (fetched.picture, fetched.scale, fetched.remarks) == (decoded.picture, decoded.scale, decoded.remarks)
    assert fetched.sha256 == hashlib.sha256(b"any").hexdigest()
    assert pid_of(decoders) == first != os.getpid()


@pytest.mark.parametrize(
    ("word", "kind", "limits"),
    [
        pytest.param(b"endless", "unsupported_format", SOON, id="endless"),
        pytest.param(b"crash", "corrupt", LIMITS, id="crash"),
        pytest.param(b"memory", "corrupt", LIMITS, id="memory"),
        pytest.param(b"large-crash", "corrupt", LIMITS, id="crash of a large one"),
        pytest.param(b"large-twice", "corrupt", LIMITS, id="large once more"),
    ],
)
def test_a_picture_that_ends_its_process_is_refused_alone(word: bytes, kind: str, limits: Limits) -> None:
    with closing(Decoders(limits, work)) as decoders:
        before = pid_of(decoders)
        with pytest.raises(ImageError) as caught:
            decoders.decode(word)
        assert (caught.value.kind, caught.value.retryable) == (kind, False)
        assert decoders.decode(b"any").picture.rgb
        assert decoders.decode(b"large").picture.rgb
        assert pid_of(decoders) != before


def test_a_process_that_says_what_none_says_is_ended(decoders: Decoders, caplog: pytest.LogCaptureFixture) -> None:
    for lie in LIES:
        pid = pid_of(decoders)
        with pytest.raises(ImageError, match="damaged or cut off"):
            decoders.decode(f"says {lie}".encode())
        assert not runs(pid)
    assert caplog.messages == ["the process that decoded a picture (text) said what none says"] * len(LIES)


def test_a_process_that_decodes_can_do_little_else(
    tmp_path: Path, decoders: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BASIC_AUTH_PASS", "c4n4ry")
    for right, (_, refused) in RIGHTS.items():
        with pytest.raises(ImageError, match=refused):
            decoders.decode(f"may {right} {tmp_path / 'file'}".encode())
    assert "c4n4ry" not in Path(f"/proc/{pid_of(decoders)}/environ").read_text()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_imported_late_where_no_file_can_be_opened() -> None:
    with closing(Decoders(Limits())) as decoders:
        for picture_format in FORMATS:
            data = saved(Image.new("RGB", (60, 40), "red"), picture_format)
            fetched, decoded = decoders.decode(data), decode(data, Limits())
            assert (fetched.picture, fetched.remarks) == (decoded.picture, decoded.remarks)
        for data in (b"\xff\xd8\xff damaged", b"II*\0 damaged", b"GIF89a damaged", b"\x89PNG\r\n\x1a\n damaged"):
            with pytest.raises(ImageError, match="damaged or cut off"):
                decoders.decode(data)


def test_a_picture_has_more_time_once_it_is_known_to_be_large() -> None:
    with closing(Decoders(SOON, work)) as decoders:
        assert decoders.decode(b"long").picture.rgb


def test_a_process_that_others_have_ended_costs_no_picture(decoders: Decoders) -> None:
    pid = pid_of(decoders)
    os.kill(pid, signal.SIGKILL)
    assert decoders.decode(b"any").picture.rgb
    assert pid_of(decoders) != pid


def test_a_picture_whose_process_is_ended_again_and_again_may_be_tried_later(decoders: Decoders) -> None:
    with pytest.raises(ImageError, match="ended from outside, perhaps for want of memory") as caught:
        decoders.decode(b"killed")
    assert caught.value.retryable


@pytest.mark.parametrize("word", ["waits", "stops"])
def test_nobody_waits_longer_than_queue_s_for_a_process(tmp_path: Path, word: str) -> None:
    told = tmp_path / "pid"
    with closing(Decoders(replace(LIMITS, queue_s=0.3), work)) as decoders, ThreadPoolExecutor(1) as threads:
        waits = threads.submit(decoders.decode, f"{word} {told}".encode())
        with pytest.raises(TimeoutError):
            waits.result(WAIT_S)
        assert not told.is_symlink() or not runs(int(told.readlink().name))


def test_of_large_pictures_one_at_a_time_is_decoded_in_all_processes(tmp_path: Path, decoders: Decoders) -> None:
    told = tmp_path / "pid"
    with closing(Decoders(replace(LIMITS, queue_s=0.3), work)) as others, ThreadPoolExecutor(1) as threads:
        large = threads.submit(decoders.decode, f"large-waits {told}".encode())
        until(told.is_symlink)
        with pytest.raises(TimeoutError):
            others.decode(b"large")
        assert decoders.decode(b"small").picture.rgb
        decoders.close()
        assert isinstance(large.exception(WAIT_S), ImageError)
    with closing(Decoders(LIMITS, work)) as others:
        assert others.decode(b"large").picture.rgb


def test_closing_ends_the_processes_those_at_work_too(tmp_path: Path, decoders: Decoders) -> None:
    told = tmp_path / "pid"
    with ThreadPoolExecutor(1) as threads:
        at_work = threads.submit(decoders.decode, f"waits {told}".encode())
        until(told.is_symlink)
        idle = pid_of(decoders)
        decoders.close()
        assert not runs(idle)
        assert not runs(int(told.readlink().name))
        with pytest.raises(ImageError, match="prelabel is stopping"):
            at_work.result(WAIT_S)
    with pytest.raises(ImageError, match="prelabel is stopping"):
        decoders.decode(b"any")


KILLED = """
import sys
from backend.errors import ImageError
from backend.images.apart import Decoders
from tests.backend.images.decoder_work import LIMITS, work

decoders = Decoders(LIMITS, work)
try:
    decoders.decode(b"pid")
except ImageError as error:
    print(error, flush=True)
sys.stdin.read()
"""


def test_a_parent_that_is_killed_leaves_no_process() -> None:
    command = [sys.executable, "-c", KILLED]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        others = {process.pid for process in psutil.Process(parent.pid).children(recursive=True)}
        assert pid in others
        parent.kill()
        parent.wait(WAIT_S)
        until(lambda: not any(runs(other) for other in others))


def test_the_processes_import_nothing_large() -> None:
    command = [sys.executable, "-c", "import sys, backend.images.apart; print(*sys.modules)"]
    imported = set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert not imported & {"torch", "transformers", "fastapi", "pydantic", "numpy", "label_studio_sdk"}
