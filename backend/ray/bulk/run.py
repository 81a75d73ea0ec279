"""A job done by Ray's workers, on this machine or many: the same records, ledger and resume as without Ray.

Only this process writes. Ray is spoken to by one thread (`_Pump`), whose replies the event loop takes from a short
queue. After `stop` nothing more is taken: the pictures under way are done by a later run.
Raises what `backend.ray.bulk.data` and the ledger raise, Stopped, and UsageError when the workers' models differ.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console

from backend.bulk.job import Job
from backend.bulk.label_configs import LabelConfig, label_config_for
from backend.bulk.loading import Stopped, tell_choice, tell_line, tell_slower
from backend.errors import EngineDead, UsageError
from backend.ray.bulk.data import replies
from backend.ray.bulk.told import told_to
from backend.ray.bulk.worker import BATCH_S, Reply
from backend.ray.cluster import check_free, connected, leave, nodes, plan_workers, require_ray
from backend.settings import Settings

MAX_WAITING = 256
_BEGINNING = "Starting Ray; each worker loads the model"


@dataclass(frozen=True, slots=True)
class RayRunLimits:
    """`nothing_s`: the longest wait for the next reply of any worker, with a batch that is tried again; `first_s`: for
    the first one, with a model from a slow mirror. `grace_s`: how long the next reply is waited for, so that the thread
    ends in order."""

    first_s: float = 96 * 3600.0
    nothing_s: float = 2 * BATCH_S
    tick_s: float = 0.25
    sync_s: float = 5.0
    grace_s: float = 5.0
    close_s: float = 30.0


class Workers(Protocol):
    """Who does the work: those of a Ray cluster, below."""

    def replies(self, job: Job, config: LabelConfig | None, tell: Callable[[str], None]) -> Iterator[Reply]:
        """Blocking; closed by the thread that reads it. `tell` is given lines of workers that load, from any thread."""
        ...

    def leave(self) -> None:
        """From any thread: whoever reads `replies` gets an error. Safe to call again."""
        ...


class RayWorkers:
    """Raises UsageError if Ray is not installed."""

    def __init__(self, settings: Settings) -> None:
        require_ray()
        self._settings = settings

    def replies(self, job: Job, config: LabelConfig | None, tell: Callable[[str], None]) -> Iterator[Reply]:
        options = job.options
        with connected(options.ray_address, options.num_workers):
            plan = plan_workers(nodes(), options.num_workers, self._settings)
            check_free(plan)
            with told_to(tell) as teller:
                yield from replies(self._settings, config, job.items(), job.figures.num_to_do or 0, plan, teller)

    def leave(self) -> None:
        leave()


async def run_ray(
    settings: Settings,
    job: Job,
    config: LabelConfig | None,
    console: Console,
    stop: asyncio.Event,
    *,
    workers: Workers | None = None,
    limits: RayRunLimits | None = None,
) -> LabelConfig:
    """Do what `job` has to do, until it is done or `stop` is set. Returns the label config that was used."""
    workers, limits, began = workers or RayWorkers(settings), limits or RayRunLimits(), time.monotonic()

    def tell(line: str) -> None:
        tell_line(line, console)

    pump = _Pump(workers, job, config, limits, tell)
    if not console.is_interactive:
        tell(_BEGINNING)
    pump.start()
    try:
        with console.status(_BEGINNING):
            first = await pump.take(stop, lambda: None)
        if first is None:
            raise Stopped
        tell_choice(settings, first.model_name, console)
        config = config or label_config_for(first.model_name, settings.language)
        if first.model_version:
            job.begin(config.schema, first.model_version, time.monotonic() - began - first.seconds)
        with job.running():
            await _take_all(first, pump, job, stop, limits.sync_s, console)
        job.seconds += first.seconds
        return config
    finally:
        await asyncio.to_thread(pump.close)


async def _take_all(first: Reply, pump: _Pump, job: Job, stop: asyncio.Event, sync_s: float, console: Console) -> None:
    synced_at = time.monotonic()
    told: set[tuple[str, tuple[str, str]]] = set()
    reply: Reply | None = first
    while reply is not None:
        new = [one for one in reply.slower if (reply.worker, one) not in told]
        tell_slower(new, console, reply.worker)
        told |= {(reply.worker, one) for one in new}
        if reply.model_version and reply.model_version != job.model_version:  # its records would spoil the output
            raise UsageError(
                f"The workers have loaded different models, {job.model_version} and {reply.model_version} "
                f"({reply.worker}). Name one with --model, and the same --vram-gib for all."
            )
        for outcome in reply.outcomes:
            job.collector.take(outcome)
        if reply.error:
            raise EngineDead(f"a worker cannot go on ({reply.worker}): {reply.error}")
        if time.monotonic() - synced_at > sync_s:
            await asyncio.to_thread(job.ledger.sync)
            synced_at = time.monotonic()
        job.progress.tick()
        reply = await pump.take(stop, job.progress.tick)


class _Pump(threading.Thread):
    """Reads the workers' replies, and hands them over to the running loop, or what was raised."""

    def __init__(
        self,
        workers: Workers,
        job: Job,
        config: LabelConfig | None,
        limits: RayRunLimits,
        tell: Callable[[str], None],
    ) -> None:
        super().__init__(name="ray-driver", daemon=True)
        self._workers = workers
        self._job = job
        self._config = config
        self._limits = limits
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Reply | BaseException | None] = asyncio.Queue(MAX_WAITING)
        self._closed = threading.Event()
        self._has_spoken = False

    def run(self) -> None:
        end: BaseException | None = None
        iterator = self._workers.replies(self._job, self._config, self._tell)
        try:
            for reply in iterator:
                if not self._put(reply):
                    break
        except BaseException as error:  # a thread's border: raised again by `take`
            end = error
        finally:
            iterator.close()  # type: ignore[attr-defined]
        self._put(end)

    def _put(self, item: Reply | BaseException | None) -> bool:
        """False: nobody waits for it any more."""
        if self._closed.is_set():
            return False
        putting = asyncio.run_coroutine_threadsafe(self._queue.put(item), self._loop)
        while not self._closed.is_set():
            with contextlib.suppress(TimeoutError):
                putting.result(self._limits.tick_s)
                return True
        putting.cancel()
        return False

    async def take(self, stop: asyncio.Event, tick: Callable[[], None]) -> Reply | None:
        """The next reply; None after the last one, and when `stop` is set. Raises what the iterator raised."""
        nothing_s = self._limits.nothing_s if self._has_spoken else self._limits.first_s
        until = time.monotonic() + nothing_s
        while not stop.is_set():
            try:
                async with asyncio.timeout(self._limits.tick_s):
                    item = await self._queue.get()
            except TimeoutError:
                tick()
                if time.monotonic() > until:
                    raise EngineDead(f"no worker has said anything for {nothing_s / 3600:.0f} hours") from None
                continue
            if isinstance(item, BaseException):
                raise item
            self._has_spoken = True
            return item
        return None

    def close(self) -> None:
        """Have the thread leave the cluster, or else leave under its feet."""
        self._closed.set()
        if self._has_spoken:
            self.join(self._limits.grace_s)
        until = time.monotonic() + self._limits.close_s
        while self.is_alive() and time.monotonic() < until:
            self._workers.leave()  # again, in case it was still joining
            self.join(1.0)
