"""A bulk run by Ray's workers: what becomes of their replies, and how it ends. No Ray runs."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from backend.bulk.audit import Withholds, withholder, withholds_nothing
from backend.bulk.job import Job
from backend.bulk.label_configs import LabelConfig
from backend.bulk.loading import Stopped
from backend.bulk.options import BulkOptions, check_options
from backend.bulk.outcomes import Record
from backend.errors import EngineDead, UsageError
from backend.ray.bulk.data import batch_sizes
from backend.ray.bulk.run import RayRunLimits, run_ray
from backend.ray.bulk.worker import Reply
from backend.settings import load_settings
from tests.backend.bulk.given import SCHEMA, VERSION, lines, pictures, record
from tests.backend.serving import CONFIG
from tests.limits import WAIT_S


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ray_address": "auto"}, "--ray-address is for --engine ray"),
        ({"engine": "ray", "dry_run": True}, "leave out --engine ray"),
    ],
    ids=["address alone", "dry run"],
)
def test_options_that_do_not_go_together_are_refused(tmp_path: Path, options: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_options(BulkOptions((str(tmp_path),), output=tmp_path / "out.jsonl", **options))


@pytest.mark.parametrize(
    ("num_items", "num_workers", "max_slots", "sizes"),
    [
        (50_000, 8, 64, (16, 8)),
        (50_000, 8, 512, (64, 16)),
        (50_000, 8, 4, (1, 8)),
        (12, 2, 64, (2, 32)),
        (1, 2, 64, (1, 32)),
    ],
    ids=["usual", "a large card", "few slots", "a small run", "one picture"],
)
def test_batches_fill_the_slots_twice_and_give_each_worker_its_share(
    num_items: int, num_workers: int, max_slots: int, sizes: tuple[int, int]
) -> None:
    assert batch_sizes(num_items, num_workers, max_slots) == sizes


def _reply(*names: str, version: str = VERSION, error: str = "", worker: str = "here, process 1") -> Reply:
    outcomes = tuple(Record(record(name)) for name in names)
    return Reply(worker, outcomes, "garments", version, 0.25, error)


class Workers:
    """Tell `lines`, say `replies`, then raise `error`, call `said`, and with `silent` say nothing more until they are
    left."""

    def __init__(
        self,
        *replies: Reply,
        error: Exception | None = None,
        silent: bool = False,
        said: Callable[[], object] = lambda: None,
        lines: Sequence[str] = (),
    ) -> None:
        self._replies = replies
        self._error = error
        self._silent = silent
        self._said = said
        self._lines = lines
        self._left = threading.Event()
        self.is_closed = False

    def replies(self, job: Job, config: LabelConfig | None, tell: Callable[[str], None]) -> Iterator[Reply]:
        try:
            for line in self._lines:
                tell(line)
            yield from self._replies
            if self._error:
                raise self._error
            self._said()
            if self._silent:
                self._left.wait(WAIT_S)
        finally:
            self.is_closed = True

    def leave(self) -> None:
        self._left.set()


def _run(
    tmp_path: Path,
    workers: Workers,
    stop: Callable[[], bool] = lambda: False,
    limits: RayRunLimits | None = None,
    withholds: Withholds = withholds_nothing,
    console: Console | None = None,
) -> Job:
    """`stop` is asked now and then."""
    folder = pictures(tmp_path / "pictures", ["a.png"])
    options = BulkOptions((str(folder),), output=tmp_path / "out.jsonl", engine="ray")
    quiet = Console(quiet=True)
    job = Job(
        options,
        tmp_path / "out.jsonl",
        image_key="image",
        language="zh",
        price=None,
        console=quiet,
        withholds=withholds,
    )

    async def go() -> None:
        stopping = asyncio.Event()

        async def listen() -> None:
            while not stop():
                await asyncio.sleep(0.01)
            stopping.set()

        listening = asyncio.create_task(listen())
        config = LabelConfig(CONFIG, SCHEMA)
        try:
            await run_ray(load_settings(), job, config, console or quiet, stopping, workers=workers, limits=limits)
        finally:
            listening.cancel()

    try:
        asyncio.run(go())
    finally:
        job.close()
    return job


def _written(tmp_path: Path) -> Sequence[str]:
    return [line["image_id"] for line in lines(tmp_path / "out.jsonl")]


def test_replies_are_written_in_the_order_they_come(tmp_path: Path) -> None:
    job = _run(tmp_path, Workers(_reply("b"), _reply("a", "c")))
    assert _written(tmp_path) == ["b", "a", "c"]
    assert job.model_version == VERSION
    assert job.seconds >= 0.25, "the first reply took that long before it came"


def test_what_workers_answered_is_withheld_by_the_process_that_writes(tmp_path: Path) -> None:
    names = [f"p{number}" for number in range(24)]
    withholds = withholder(tmp_path / "data", 0.5)
    job = _run(tmp_path, Workers(_reply(*names[:9]), _reply(*names[9:])), withholds=withholds)
    written = lines(tmp_path / "out.jsonl")
    assert [line.get("withheld", False) for line in written] == [withholds(record(name)) for name in names]
    assert 0 < job.summary("finished").num_withheld < len(names)


def test_what_workers_are_at_while_they_load_is_told_as_it_comes(tmp_path: Path) -> None:
    file = io.StringIO()
    said = ["here, process 1: 2% Downloading the model", f"there, process 2: {'5% ' * 40}[/]"]
    _run(tmp_path, Workers(_reply("a"), lines=said), console=Console(file=file, width=80))
    assert file.getvalue().splitlines()[:3] == [
        "prelabel: Starting Ray; each worker loads the model",
        *(f"prelabel: {line}" for line in said),
    ]


def test_what_makes_a_worker_slower_is_told_once_with_its_machine(tmp_path: Path) -> None:
    file = io.StringIO()
    graphs, kernels = ("slow_graphs", "not permitted"), ("slow_kernels", "no compiler")
    there = replace(_reply("c", worker="there, process 2"), slower=(kernels,))
    workers = Workers(
        replace(_reply("a"), slower=(graphs,)),
        there,
        replace(_reply("b"), slower=(graphs,)),
        replace(there, outcomes=()),
    )
    _run(tmp_path, workers, console=Console(file=file, width=400))
    lines = [line for line in file.getvalue().splitlines() if ", process " in line]
    assert [line.partition(": ")[0] for line in lines] == ["! here, process 1", "! there, process 2"]
    assert "decode steps run without CUDA graphs (not permitted)" in lines[0]
    assert "plain torch computes" in lines[1]


def test_workers_without_a_card_that_take_the_built_in_model_are_told(tmp_path: Path) -> None:
    file = io.StringIO()
    _run(tmp_path, Workers(_reply("a")), console=Console(file=file, width=400))
    assert file.getvalue().count("! no CUDA card is seen, so the small built-in model garments answers") == 1


def test_workers_with_different_models_end_the_run(tmp_path: Path) -> None:
    other = replace(_reply("b", version="other-nf4-1"), worker="there, process 2")
    with pytest.raises(UsageError, match=r"different models, garments.* and other-nf4-1 \(there, process 2\)"):
        _run(tmp_path, Workers(_reply("a"), other))
    assert _written(tmp_path) == ["a"], "the other's would spoil the output"
    job = _run(tmp_path, Workers(_reply("b")))
    assert job.summary("finished").num_done == 1


def test_a_worker_that_cannot_go_on_ends_the_run_after_its_outcomes(tmp_path: Path) -> None:
    with pytest.raises(EngineDead, match=r"cannot go on \(here, process 1\): the card is gone"):
        _run(tmp_path, Workers(_reply("a"), _reply("b", error="the card is gone")))
    assert _written(tmp_path) == ["a", "b"]


def test_when_ray_gives_up_what_was_done_before_is_kept(tmp_path: Path) -> None:
    with pytest.raises(EngineDead, match="Ray gave up"):
        _run(tmp_path, Workers(_reply("a"), error=EngineDead("Ray gave up")))
    assert _written(tmp_path) == ["a"]


def test_a_stop_while_the_workers_load_ends_the_run(tmp_path: Path) -> None:
    loading = threading.Event()
    workers = Workers(silent=True, said=loading.set)
    with pytest.raises(Stopped):
        _run(tmp_path, workers, loading.is_set)
    assert workers.is_closed


def test_a_stop_in_the_middle_ends_the_run_although_the_workers_are_silent(tmp_path: Path) -> None:
    workers = Workers(_reply("a"), _reply("b"), silent=True)
    _run(tmp_path, workers, lambda: len(_written(tmp_path)) == 2, RayRunLimits(grace_s=0.1))
    assert _written(tmp_path) == ["a", "b"]
    assert workers.is_closed


@pytest.mark.parametrize(
    ("replies", "limits"),
    [([], RayRunLimits(first_s=0.1)), ([_reply("a")], RayRunLimits(nothing_s=0.1))],
    ids=["while the model is loaded", "after that"],
)
def test_a_silence_without_end_is_ended(tmp_path: Path, replies: list[Reply], limits: RayRunLimits) -> None:
    workers = Workers(*replies, silent=True)
    with pytest.raises(EngineDead, match="no worker has said anything"):
        _run(tmp_path, workers, limits=limits)
    assert workers.is_closed
