"""What lasts between requests: the engine, the pictures, what projects asked for, and the model's name.

One `Core` a process, on one event loop. `api.app` and the plug-in, `api.plugin`, are two doors to it. Knows no HTTP and
imports no torch. `prepare_data_dir` must have run: the state files lie in `settings.data_dir`.
Tasks go through one queue over two stores. `Core` has the one in memory. `DurableCore`, of `prelabel serve`, has
the one on the disk besides, one process a data folder; label-studio-ml's own servers run as many processes as they
like, so theirs is without.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from backend.delivery.asking import Asking
from backend.delivery.gone import GoneTasks
from backend.delivery.loop import Delivery
from backend.delivery.pace import DeliveryLimits
from backend.delivery.tabs import ProjectTabs
from backend.delivery.upkeep import Upkeep, UpkeepLimits
from backend.engine.api import Engine
from backend.engine.own_code import running_code
from backend.errors import ConfigRefused, EngineBusy, EngineDead, StoreError
from backend.label_studio.model_settings import ModelSettingsClient
from backend.label_studio.people import PeopleClient
from backend.metrics import Metrics
from backend.predict.answered import Answered
from backend.predict.config_check import CHECK_S
from backend.predict.label_configs import schema_of
from backend.predict.named_addresses import NamedAddresses
from backend.predict.options import default_options
from backend.predict.predictor import Answerer, Images
from backend.predict.recipe import Recipe, recipe_of
from backend.predict.task import TaskInput
from backend.quality.watch import PeoplePace, PeopleWatch
from backend.queue.ask import Ask
from backend.queue.model_name import ModelNames
from backend.queue.projects import ProjectBook
from backend.queue.renewals import Renewals
from backend.queue.requests import Requests
from backend.queue.results import TaskResult
from backend.queue.task_queue import TaskQueue
from backend.settings import Settings
from backend.status.check import Check
from backend.status.serve_checks import engine_checks, running_checks
from backend.status.watch import Watch, WatchPace
from backend.store import Store
from backend.store.serving import open_store
from backend.store.state_file import StateFile
from backend.store.types import RecipeRecord, WorkState
from label_config.schema import LabelSchema

log = logging.getLogger(__name__)

_OPEN = (WorkState.QUEUED, WorkState.RUNNING, WorkState.DONE, WorkState.WITHHELD, WorkState.FAILED)
WATCH_S = 5.0
STOP_S = 14.0


@dataclass(frozen=True, slots=True)
class Timing:
    """What time it is (`clock`: seconds since the epoch), how long a label config may be checked, and the pace of the
    delivery, the upkeep, the checks and the look for what people did. Tests have their own."""

    clock: Callable[[], float] = time.time
    config_check_s: float = CHECK_S
    delivery: DeliveryLimits = field(default_factory=DeliveryLimits)
    watch: WatchPace = field(default_factory=WatchPace)
    upkeep: UpkeepLimits = field(default_factory=UpkeepLimits)
    people: PeoplePace = field(default_factory=PeoplePace)


class Core:
    """Build it on the event loop it will be used on."""

    def __init__(self, settings: Settings, engine: Engine, images: Images, timing: Timing | None = None) -> None:
        self.settings = settings
        self.engine = engine
        self.images = images
        self.timing = timing or Timing()
        self.clock = self.timing.clock
        self.metrics = Metrics()
        self.answerer = Answerer(engine, images, self.metrics, self._find)
        self.projects = ProjectBook(StateFile(settings.data_dir / "projects.json"), default_options(settings))
        self.named_addresses = NamedAddresses(settings.data_dir, images.label_studio)
        self._names = ModelNames(StateFile(settings.data_dir / "model.json"), settings.model, settings.model_revision)
        self._memory = self._queue(Store.in_memory(), lasts=False)
        self._requests = Requests(engine, self.metrics, self._memory.replies)
        self._watcher: asyncio.Task[None] | None = None

    def _queue(self, store: Store, *, lasts: bool, **options: Any) -> TaskQueue:
        return TaskQueue(
            store, self.engine, self.answerer, self.metrics, self.settings, lasts=lasts, clock=self.clock, **options
        )

    async def start(self) -> None:
        """Start the engine; it loads in the background."""
        await self.engine.start()
        self._watcher = asyncio.create_task(self._remember_model())
        self._memory.start()

    async def close(self, limit_s: float = STOP_S) -> None:
        """End everything within `limit_s`, whatever hangs."""
        until = time.monotonic() + limit_s
        if self._watcher is not None:
            self._watcher.cancel()
        await self._stop(limit_s * 0.7)
        engine_s = (until - time.monotonic()) * 0.6
        try:
            async with asyncio.timeout(engine_s):
                await self.engine.close()
        except TimeoutError:
            log.warning("the engine did not end within %.1f s; it ends with this process", engine_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout((until - time.monotonic()) * 0.4):
                await self.images.aclose()
        await self._close_stores(until - time.monotonic())

    async def _stop(self, limit_s: float) -> None:
        await _ended("work in memory", self._memory.stop(limit_s))

    async def _close_stores(self, limit_s: float) -> None:
        await self._memory.close(limit_s)

    async def predict(self, ask: Ask, tasks: Sequence[TaskInput], deadline: float) -> list[TaskResult]:
        """Return one result a task, in order, by `deadline` (the event loop's clock). What is on the disk and not done
        by then goes on.

        Raises EngineBusy, EngineNotReady, EngineDead or StoreError when nothing at all could be done.
        """
        return await self._requests.predict(ask, tasks, deadline)

    async def _find(self, recipe: Recipe, key: str) -> Answered | None:
        """What the disk has: nothing here."""
        return None

    def audit_warnings(self, project: str) -> list[str]:
        """Of the blind audit that its extra params ask for: what of it cannot be had here."""
        if not self.projects.options(project).audit_share:
            return []
        return ["audit_share: only `prelabel serve` keeps answers back; this server shows all of them"]

    def recipe(self, project: str, schema: LabelSchema) -> Recipe:
        return recipe_of(schema, self.projects.options(project), self.settings.image_tokens)

    @property
    def model_name(self) -> str:
        """Of the model that is loaded or being loaded; "" while it is not known which one that will be."""
        return self._names.name(self.engine.status)

    def model_version(self, recipe: Recipe) -> str:
        """The version of `recipe`'s predictions; while the model loads, the name it had last time."""
        return recipe.version(self._names.of(self.engine.status))

    async def _loaded(self) -> None:
        """The model is loaded."""

    async def _remember_model(self) -> None:
        """Keep the model's name for the next start once it is loaded."""
        while True:
            try:
                ready = await self.engine.wait_ready(WATCH_S)
                await self._loaded()
                await asyncio.to_thread(self._names.remember, ready)
                return
            except EngineBusy:
                continue
            except EngineDead:
                return
            except OSError as error:
                log.warning("the model's name could not be saved: %s", error.strerror)
                return


class DurableCore(Core):
    """With the store on the disk and the delivery. Raises StoreError when that store cannot be opened."""

    def __init__(self, settings: Settings, engine: Engine, images: Images, timing: Timing | None = None) -> None:
        super().__init__(settings, engine, images, timing)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.store: Store = open_store(settings.data_dir, self.clock())
        self.projects.keep_audited(self.store.audited_projects)
        url, key = settings.label_studio_url, settings.label_studio_api_key.get_secret_value()

        def connect() -> ModelSettingsClient:
            return ModelSettingsClient(url, key, extra_ca_file=settings.extra_ca_file)

        def connect_people() -> PeopleClient:
            return PeopleClient(url, key, extra_ca_file=settings.extra_ca_file)

        code = running_code()
        self.watch = Watch(lambda: running_checks(settings, engine.status, code), self.timing.watch)
        self._asking = Asking(connect if url and key else None)
        self.tabs = ProjectTabs(self._asking)
        self.gone = GoneTasks(self.store, self._asking, clock=self.clock)
        self.people = PeopleWatch(
            connect_people if url and key else None, self.store, pace=self.timing.people, clock=self.clock
        )
        self._disk = self._queue(
            self.store,
            lasts=True,
            pushes=lambda project: self.delivery_state == "push" and self.delivery.is_well(project),
            wake_delivery=lambda: self.delivery.wake(),
        )
        self.upkeep = Upkeep(
            connect if url and key else None,
            self.store.versions,
            self.store.forget_older,
            limits=self.timing.upkeep,
            clock=self.clock,
        )
        self.delivery: Delivery = Delivery(
            self.store,
            connect if url and key else None,
            self._disk.recipes.prediction,
            renew=self.renew,
            delivered=self.upkeep.delivered,
            limits=self.timing.delivery,
            clock=self.clock,
            refused=self.watch.wake,
        )
        self._renewals = Renewals(self.renew, self.upkeep.look, self._disk.calls.complain)
        self.worker = self._disk.worker
        self._requests = Requests(
            engine,
            self.metrics,
            self._memory.replies,
            self._disk.replies,
            lambda: self._names.known(engine.status),
            self._withheld,
        )

    @property
    def delivery_state(self) -> str:
        """ "reply": answers only go out when Label Studio asks. "push": they are also brought there. "paused": they
        would be, but Label Studio refuses the API key."""
        status = self.delivery.status
        if not status.configured:
            return "reply"
        return "push" if status.paused_until is None else "paused"

    @property
    def checks(self) -> tuple[Check, ...]:
        """What the engine says of itself now, and what was found at the last look."""
        return (*engine_checks(self.engine.status), *self.watch.checks)

    def renew(self, project: str, label_config: str = "") -> str:
        """From now on the tasks of `project` are answered by `label_config` (by default the one it has), its present
        options and the model that is loaded, and what is not in Label Studio yet is answered so. Blocking.

        Returns the model version of it; "", and nothing is changed, if the config cannot be pre-filled or no model was
        ever loaded. Raises StoreError.
        """
        ready, known = self._names.known(self.engine.status), self.store.present(project)
        config = label_config or (known[1].label_config if known else "")
        if ready is None or not config:
            return ""
        try:
            recipe = self.recipe(project, schema_of(config))
        except ConfigRefused:
            return ""
        record = RecipeRecord(recipe.fingerprint, project, config, recipe.options.model_dump_json())
        version, share = recipe.version(ready), self.projects.options(project).audit_share
        num_moved = self.store.set_present(record, version, self.clock(), share)
        if num_moved:
            log.info("project %s: %d tasks are answered anew, under %s", project, num_moved, version)
        if num_moved is not None:
            self._on_loop(lambda: self.worker.superseded(project, version))
        return version

    async def _withheld(self, ask: Ask, task_ids: Collection[int]) -> Collection[int]:
        """Raises StoreError: what cannot be decided is not shown."""
        if not ask.audit_share:
            return ()
        call = partial(self.store.withheld_tasks, ask.project, task_ids, ask.audit_share)
        return await self._disk.calls.run(call, ask.project)

    def audit_warnings(self, project: str) -> list[str]:
        if not self.projects.options(project).audit_share or self.delivery.status.configured:
            return []
        return [
            "audit_share: without LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY prelabel does not hear of what people "
            "labelled, so the answers of withheld tasks stay here until audit_share is 0"
        ]

    def _on_loop(self, call: Callable[[], None]) -> None:
        """From any thread. Nothing happens before the start, or when the loop has ended: nobody waits then."""
        with contextlib.suppress(RuntimeError):
            if self._loop is not None:
                self._loop.call_soon_threadsafe(call)

    def retry(self, project: str, now: float) -> int:
        """Queue again all that failed, under the present config and model. Blocking. Raises StoreError."""
        self.renew(project)
        return self.store.retry_failed(project, now)

    def was_set_up(self, project: str, label_config: str) -> None:
        """Label Studio told the label config of `project`. It waits three seconds at most, so not for this."""
        self._renewals.ask(project, label_config)

    async def _loaded(self) -> None:
        """What waits was perhaps asked for under another model; and whether it is on a card is known now."""
        self.watch.wake()
        try:
            summaries = await self._disk.calls.run(self.store.summary)
        except StoreError as error:
            return self._disk.calls.complain(error)
        for summary in summaries:
            if any(summary.states.get(state) for state in _OPEN):
                self._renewals.ask(summary.project)

    def delete_older(self, project: str, now: float) -> int:
        """Have Label Studio delete the predictions that prelabel made under earlier versions; how many it has of them.
        Any thread may call it."""
        self._on_loop(lambda: self.upkeep.delete_older(project))
        known = self.upkeep.known.get(project)
        return known.num_stale if known else 0

    @property
    def titles(self) -> dict[str, str]:
        """Of the projects that Label Studio was asked about lately."""
        return {
            **self.delivery.titles,
            **{project: one.title for project, one in self.upkeep.known.items() if one.title},
        }

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        await super().start()
        await self.delivery.start()
        self.upkeep.start()
        self._asking.start()
        self.people.start()
        self._disk.start()
        self.watch.start()

    async def _stop(self, limit_s: float) -> None:
        """Queue again what is not computed by then, and keep what Label Studio has not been told yet."""
        self.watch.stop()
        self._asking.stop()
        self.people.stop()
        stops = _ended("work on the disk", self._disk.stop(limit_s * 0.7)), super()._stop(limit_s * 0.7)
        await asyncio.gather(*stops)
        ends = _ended("delivery", self.delivery.stop(limit_s * 0.3)), _ended("upkeep", self.upkeep.stop(limit_s * 0.3))
        await asyncio.gather(*ends)

    async def _close_stores(self, limit_s: float) -> None:
        await asyncio.gather(self._disk.close(limit_s), super()._close_stores(limit_s))

    async def _find(self, recipe: Recipe, key: str) -> Answered | None:
        calls, store = self._disk.calls, self.store
        try:
            found = await calls.short(lambda: store.answer(key))
        except StoreError as error:
            calls.complain(error)
            return None
        return Answered.read(recipe, key, found.content) if found else None


async def _ended(part: str, end: Awaitable[None]) -> None:
    try:
        await end
    except Exception:  # what is left must be ended, too
        log.exception("the %s did not end in order", part)
