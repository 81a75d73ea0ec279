"""What lasts between requests: the engine, the pictures, what projects asked for, and the model's name.

One `Core` a process, on one event loop. `api.app` and the plug-in, `api.plugin`, are two doors to it. Knows no HTTP and
imports no torch. `prepare_data_dir` must have run: the state files lie in `settings.data_dir`.
`DurableCore` also has the store: `prelabel serve` runs it, one process a data folder. label-studio-ml's own servers run
as many processes as they like, so theirs is without.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from backend.delivery.loop import Delivery
from backend.delivery.pace import DeliveryLimits
from backend.engine.api import Engine
from backend.errors import EngineBusy, EngineDead, StoreError
from backend.label_studio.predictions import PredictionsClient
from backend.metrics import Metrics
from backend.predict.answered import Answered
from backend.predict.config_check import CHECK_S
from backend.predict.options import default_options
from backend.predict.predictor import Answerer, Find, Images
from backend.predict.recipe import Recipe, recipe_of
from backend.predict.task import TaskInput
from backend.queue.in_memory import PredictionService, ServiceLimits, TaskResult
from backend.queue.model_name import ModelNames
from backend.queue.projects import ProjectBook
from backend.queue.recipes import Recipes
from backend.queue.replies import MAX_IN_REPLY, Ask, DurableService
from backend.queue.worker import Worker, WorkerLimits
from backend.settings import Settings
from backend.store import Store
from backend.store.calls import StoreCalls
from backend.store.serving import open_store
from backend.store.state_file import StateFile
from label_config.schema import LabelSchema

log = logging.getLogger(__name__)

WATCH_S = 5.0
STOP_S = 14.0
PRUNE_EVERY_S = 3_600.0
KEEP_S = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class Timing:
    """What time it is (`clock`: seconds since the epoch), how long a label config may be checked, and the pace of the
    delivery. Tests have their own."""

    clock: Callable[[], float] = time.time
    config_check_s: float = CHECK_S
    delivery: DeliveryLimits = field(default_factory=DeliveryLimits)


class Core:
    """Build it on the event loop it will be used on."""

    def __init__(self, settings: Settings, engine: Engine, images: Images, find: Find | None = None) -> None:
        self.settings = settings
        self.engine = engine
        self.images = images
        self.metrics = Metrics()
        self.answerer = Answerer(engine, images, self.metrics, find)
        limits = ServiceLimits(max_bulk=2 * settings.max_slots)
        self.service = PredictionService(engine, self.answerer, self.metrics, limits)
        self.projects = ProjectBook(StateFile(settings.data_dir / "projects.json"), default_options(settings))
        self._names = ModelNames(StateFile(settings.data_dir / "model.json"), settings.model, settings.model_revision)
        self._watcher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the engine; it loads in the background."""
        await self.engine.start()
        self._watcher = asyncio.create_task(self._remember_model())

    async def close(self, limit_s: float = STOP_S) -> None:
        """End everything within `limit_s`, whatever hangs."""
        if self._watcher is not None:
            self._watcher.cancel()
        try:
            async with asyncio.timeout(limit_s * 0.8):
                await self.engine.close()
        except TimeoutError:
            log.warning("the engine did not end within %.1f s; it ends with this process", limit_s * 0.8)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s * 0.2):
                await self.images.aclose()

    async def predict(self, ask: Ask, tasks: Sequence[TaskInput], deadline: float) -> list[TaskResult]:
        """Return one result a task, in order, by `deadline` (the event loop's clock).

        Raises EngineNotReady or EngineDead when nothing at all could be done for want of a model.
        """
        return await self.service.predict(tasks, ask.recipe, deadline, interactive=ask.interactive)

    def recipe(self, project: str, schema: LabelSchema) -> Recipe:
        return recipe_of(schema, self.projects.options(project), self.settings.image_tokens)

    def model_version(self, recipe: Recipe) -> str:
        """The version of `recipe`'s predictions; while the model loads, the name it had last time."""
        return recipe.version(self._names.of(self.engine.status))

    async def _remember_model(self) -> None:
        """Keep the model's name for the next start once it is loaded."""
        while True:
            try:
                ready = await self.engine.wait_ready(WATCH_S)
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
    """With the store, the worker and the delivery. Raises StoreError when the store cannot be opened."""

    def __init__(self, settings: Settings, engine: Engine, images: Images, timing: Timing | None = None) -> None:
        super().__init__(settings, engine, images, self._find)
        self.timing = timing or Timing()
        self.clock = self.timing.clock
        self.store: Store = open_store(settings.data_dir, self.clock())
        self._calls = StoreCalls(self.store)
        recipes = Recipes(self.store, settings.image_tokens)
        url, key = settings.label_studio_url, settings.label_studio_api_key.get_secret_value()

        def connect() -> PredictionsClient:
            return PredictionsClient(url, key, extra_ca_file=settings.extra_ca_file)

        self.delivery = Delivery(
            self.store,
            connect if url and key else None,
            recipes.prediction,
            limits=self.timing.delivery,
            clock=self.clock,
        )
        self.worker = Worker(
            self.store,
            self._calls,
            engine,
            self.answerer,
            self.metrics,
            recipes.of,
            WorkerLimits(max_running=2 * settings.max_slots),
            clock=self.clock,
            wake_delivery=self.delivery.wake,
        )
        self._durable = DurableService(
            self.store,
            self._calls,
            self.worker,
            engine,
            self.service,
            max_waiting=10 * settings.max_tasks,
            max_in_reply=MAX_IN_REPLY if url and key else None,
            known_model=lambda: self._names.known(engine.status),
            clock=self.clock,
            wake_delivery=self.delivery.wake,
        )
        self._pruner: asyncio.Task[None] | None = None

    @property
    def delivery_state(self) -> str:
        """ "reply": answers only go out when Label Studio asks. "push": they are also brought there. "paused": they
        would be, but Label Studio refuses the API key."""
        status = self.delivery.status
        if not status.configured:
            return "reply"
        return "push" if status.paused_until is None else "paused"

    async def start(self) -> None:
        await super().start()
        await self.delivery.start()
        self.worker.start()
        self._pruner = asyncio.create_task(self._prune())

    async def close(self, limit_s: float = STOP_S) -> None:
        """Queue again what is not computed by then, and keep what Label Studio has not been told yet."""
        until = time.monotonic() + limit_s
        if self._pruner is not None:
            self._pruner.cancel()
        for part, end in (
            ("worker", self.worker.stop(limit_s * 0.4)),
            ("replies", self._durable.close(limit_s * 0.1)),
            ("delivery", self.delivery.stop(limit_s * 0.2)),
        ):
            try:
                await end
            except Exception:  # what is left must be ended, too
                log.exception("the %s did not end in order", part)
        await super().close((until - time.monotonic()) * 0.7)
        try:
            async with asyncio.timeout(until - time.monotonic()):
                await self._calls.run(self.store.close)
        except TimeoutError:
            log.warning("the store did not close in time; nothing is lost, and the next start has a little more to do")

    async def predict(self, ask: Ask, tasks: Sequence[TaskInput], deadline: float) -> list[TaskResult]:
        """As `Core.predict`; what is not done by the deadline goes on. Raises StoreError, too."""
        return await self._durable.predict(ask, tasks, deadline)

    async def _find(self, recipe: Recipe, key: str) -> Answered | None:
        try:
            found = await self._calls.short(lambda: self.store.answer(key))
        except StoreError as error:
            self._calls.complain(error)
            return None
        return Answered.read(recipe, key, found.content) if found else None

    async def _prune(self) -> None:
        while True:
            try:
                num_rows = await self._calls.run(lambda: self.store.prune(self.clock(), KEEP_S))
                if num_rows:
                    log.info("%d rows of work older than 30 days are forgotten", num_rows)
            except StoreError as error:
                self._calls.complain(error)
            except Exception:  # a job's border: without it the file would grow for ever
                log.exception("old work could not be forgotten")
            await asyncio.sleep(PRUNE_EVERY_S)
