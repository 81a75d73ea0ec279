"""The delivery loop: every second, or when woken, brings finished work of every project to Label Studio.

Projects are served side by side, each in a thread, so that one project's trouble stops no other's; one project's
batches go one after the other, in order. Backs off when Label Studio is away; a refused token pauses everything until
it works again. Nothing is raised: `Delivery.status` and the log say what is wrong, and the store keeps the work.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Literal

from cachetools import LRUCache

from backend.delivery.batch import Batch, Interrupted, Renew
from backend.delivery.pace import DeliveryLimits, Lane
from backend.delivery.plan import MakePrediction
from backend.errors import PrelabelError, StoreError
from backend.label_studio.predictions import CallFailed, PredictionsClient
from backend.logs import one_line, redact
from backend.reasons import Reason
from backend.store import Store
from backend.store.threads import in_thread

log = logging.getLogger(__name__)

STOP_S = 15.0
MAX_ERROR_CHARS = 300
MAX_TITLES = 1_000
NO_KEY = "LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY are not set, so predictions only go out in replies to /predict"


@dataclass(frozen=True, slots=True)
class DeliveryStatus:
    """Times are seconds since the epoch. `last_error` is one line without secrets,
    `last_reason` what is known of it; `paused_until`: the token is
    refused, and is tried again then."""

    configured: bool
    num_delivered: int = 0
    last_success_at: float | None = None
    last_error_at: float | None = None
    last_error: str = ""
    last_reason: Reason | Literal[""] = ""
    paused_until: float | None = None


@dataclass(slots=True, eq=False)
class Delivery:
    """Use it from one event loop. `connect` is None where no API key is set; it may raise PrelabelError. `renew` has
    what is not delivered of a project answered by its present label config. `delivered` is called with a project when
    Label Studio has got predictions of it, `refused` when Label Studio has refused the token, each time it does."""

    store: Store
    connect: Callable[[], PredictionsClient] | None
    make_prediction: MakePrediction
    _: KW_ONLY
    renew: Renew = lambda project, label_config: ""
    delivered: Callable[[str], None] = lambda project: None
    limits: DeliveryLimits = field(default_factory=DeliveryLimits)
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random
    refused: Callable[[], None] = lambda: None
    status: DeliveryStatus = field(init=False)
    titles: LRUCache[str, str] = field(default_factory=lambda: LRUCache(MAX_TITLES), init=False)
    """Of the projects that were served lately, as Label Studio has them."""
    _client: PredictionsClient | None = field(default=None, init=False)
    _lanes: dict[str, Lane] = field(default_factory=dict, init=False)
    _running: dict[str, asyncio.Task[None]] = field(default_factory=dict, init=False)
    _backlog: set[str] = field(default_factory=set, init=False)
    _backlog_from: float = field(default=0.0, init=False)
    _probe_at: float | None = field(default=None, init=False)
    _stopping: bool = field(default=False, init=False)
    _woken: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _loop: asyncio.Task[None] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.status = DeliveryStatus(self.connect is not None)

    async def start(self) -> None:
        """Begin. What an earlier process may have been sending waits until Label Studio surely is done with it."""
        if self.connect is None:
            log.info(NO_KEY)
            return
        with contextlib.suppress(PrelabelError):
            self._backlog = set(await in_thread(lambda: self.store.projects_due(self.clock())))
        self._backlog_from = self.monotonic() + self.limits.settle_s
        self._loop = asyncio.create_task(self._run())

    def wake(self) -> None:
        """There may be something to deliver."""
        self._woken.set()

    def is_well(self, project: str) -> bool:
        """Whether what there is for `project` will be in Label Studio soon, as far as is known."""
        lane = self._lanes.get(project)
        return lane is None or lane.failures == 0

    async def stop(self, limit_s: float = STOP_S) -> None:
        """End after the calls under way, at most `limit_s` later. What a call left open is looked up at the next
        start."""
        self._stopping = True
        self._woken.set()
        waiting = [task for task in (self._loop, *self._running.values()) if task is not None and not task.done()]
        _, late = await asyncio.wait(waiting, timeout=limit_s) if waiting else (set(), set())
        for task in late:
            task.cancel()
        if late:
            log.warning("Label Studio did not answer in time; what was sent is looked up at the next start")
        elif self._client is not None:
            self._client.close()

    async def _run(self) -> None:
        while not self._stopping:
            self._woken.clear()
            try:
                await self._begin_due()
            except Exception:  # a job's border: without the loop nothing would be delivered any more
                log.exception("a round of delivery failed")
                self._say("a fault in prelabel; its log says more", "internal")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), self.limits.poll_s)
        await self._end_running()

    async def deliver_due(self) -> None:
        """One round, to its end: a batch of each project that is due and may be served."""
        await self._begin_due()
        await self._end_running()

    async def _end_running(self) -> None:
        if self._running:
            await asyncio.wait(list(self._running.values()))

    async def _begin_due(self) -> None:
        if self.connect is None or not await self._token_works():
            return
        try:
            projects = await in_thread(lambda: self.store.projects_due(self.clock()))
        except PrelabelError as error:
            self._say(str(error), "store" if isinstance(error, StoreError) else "")
            return
        self._lanes = {p: lane for p, lane in self._lanes.items() if p in projects or not lane.is_idle}
        now = self.monotonic()
        fresh = Lane(self.limits, self.limits.batch)
        for project in sorted(projects, key=lambda p: self._lanes.get(p, fresh).served_at):
            lane = self._lanes.setdefault(project, replace(fresh))
            waits = now < lane.not_before or (project in self._backlog and now < self._backlog_from)
            full = self._stopping or len(self._running) >= self.limits.max_parallel
            if waits or full or project in self._running:
                continue
            lane.served_at = now
            task = asyncio.create_task(self._serve(project, lane))
            self._running[project] = task
            task.add_done_callback(lambda _, project=project: self._running.pop(project, None))  # type: ignore[misc]

    async def _token_works(self) -> bool:
        """Whether there is a client to work with. While the token is refused it is tried once in `probe_s`."""
        if self._client is not None and self._probe_at is None:
            return True
        if self._running or (self._probe_at is not None and self.monotonic() < self._probe_at):
            return False
        try:
            self._client = await in_thread(self._connected)
        except PrelabelError as error:
            if (isinstance(error, CallFailed) and error.kind == "unauthorized") or self._probe_at is not None:
                self._pause()
            self._say(str(error), error.kind if isinstance(error, CallFailed) else "")
            return False
        if self._probe_at is not None:
            log.info("Label Studio accepts the token again; delivery goes on")
        self._probe_at = None
        self.status = replace(self.status, paused_until=None)
        return True

    def _connected(self) -> PredictionsClient:
        """A new client, after a refusal one whose token was seen to work: the key may have been changed."""
        assert self.connect is not None
        if self._client is not None:
            self._client.close()
        client = self.connect()
        if self._probe_at is not None:
            try:
                client.check_token()
            except CallFailed:
                client.close()
                raise
        return client

    async def _serve(self, project: str, lane: Lane) -> None:
        client = self._client
        assert client is not None
        started, now = self.monotonic(), self.clock()
        batch: Batch | None = None

        def may_go_on() -> bool:
            return not self._stopping and self.monotonic() - started < self.limits.hold_s / 2

        def deliver() -> int:
            nonlocal batch
            works = self.store.take_due(project, lane.size, now + self.limits.hold_s, now)
            batch = Batch(client, self.store, self.make_prediction, self.renew, self.clock, may_go_on, project, works)
            batch.run()
            return len(works)

        try:
            num_taken = await in_thread(deliver)
        except Interrupted:
            await self._try_later(batch, 0.0, "interrupted", sent=False)
        except CallFailed as error:
            await self._call_failed(client, lane, batch, error)
        except Exception as error:  # a job's border: this project waits, the others go on
            known = isinstance(error, PrelabelError)
            log.log(
                logging.WARNING if known else logging.ERROR,
                "delivery to project %s failed",
                project,
                exc_info=not known,
            )
            if known:
                self._say(str(error), "store" if isinstance(error, StoreError) else "")
            else:
                self._say("a fault in prelabel; its log says more", "internal")
            await self._try_later(batch, lane.failed(self.monotonic(), self.jitter()), "internal", sent=True)
        else:
            more = num_taken == lane.size
            lane.succeeded(self.monotonic(), self.monotonic() - started, more=more)
            if more:
                self._woken.set()
            else:
                self._backlog.discard(project)
        self._count(project, batch)

    async def _call_failed(self, client: PredictionsClient, lane: Lane, batch: Batch | None, error: CallFailed) -> None:
        if error.kind == "unauthorized" and not await self._is_only_this_project(client):
            self._pause()
            self._say(str(error), error.kind)
            await self._try_later(batch, 0.0, error.kind, sent=False)
            return
        sent = batch is not None and batch.may_be_there
        alone = sent and lane.size == 1
        at_least_s = max(error.retry_after_s or 0.0, self.limits.settle_s if sent else 0.0)
        wait_s = lane.failed(
            self.monotonic(), self.jitter(), at_least_s=at_least_s, smaller=sent or error.kind == "refused"
        )
        if alone:  # perhaps this one breaks Label Studio: let those behind it pass
            lane.not_before = self.monotonic() + at_least_s
            wait_s = max(wait_s, self.limits.max_backoff_s)
        self._say(str(error), error.kind)
        await self._try_later(batch, wait_s, error.kind, sent=sent)

    async def _is_only_this_project(self, client: PredictionsClient) -> bool:
        """Whether the token is good, and only this call was forbidden."""
        try:
            await in_thread(client.check_token)
        except CallFailed as error:
            return error.kind != "unauthorized"
        return True

    async def _try_later(self, batch: Batch | None, wait_s: float, reason: Reason, *, sent: bool) -> None:
        if batch is None or not batch.open_ids:
            return
        ids: list[int] = batch.open_ids
        now = self.clock()
        try:
            await in_thread(lambda: self.store.push_failed(ids, now + wait_s, reason, now, sent=sent))
        except PrelabelError as error:  # the store lets go of them by itself, as perhaps delivered
            self._say(str(error), "store" if isinstance(error, StoreError) else "")

    def _pause(self) -> None:
        self._probe_at = self.monotonic() + self.limits.probe_s
        if self.status.paused_until is None:
            log.warning("delivery pauses; the predictions are kept until Label Studio accepts the token")
        self.status = replace(self.status, paused_until=self.clock() + self.limits.probe_s)
        self.refused()

    def _say(self, error: str, reason: Reason | Literal[""]) -> None:
        line = one_line(redact(" ".join(error.split())))[:MAX_ERROR_CHARS]
        if line != self.status.last_error or self.status.paused_until is None:
            log.warning("delivery: %s", line)
        self.status = replace(self.status, last_error=line, last_reason=reason, last_error_at=self.clock())

    def _count(self, project: str, batch: Batch | None) -> None:
        if batch is None:
            return
        self._remember_title(project, batch.title)
        if batch.num_delivered:
            log.info("project %s: %d predictions are in Label Studio", project, batch.num_delivered)
            self.status = replace(self.status, last_success_at=self.clock())
            self.delivered(project)
        self.status = replace(self.status, num_delivered=self.status.num_delivered + batch.num_delivered)

    def _remember_title(self, project: str, title: str) -> None:
        if title:
            self.titles[project] = title
