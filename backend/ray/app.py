"""The Ray Serve application: `serve run backend.ray.app:build` or deploy/ray-serve.yaml.

ONE API replica, on the cluster's head: the store, the delivery and the status page live in it, and one process serves a
data folder (it holds a lock on it). N engine replicas, one a GPU, wherever the cluster has them.
Settings come from the environment of the process that builds the application. Raises SettingsError.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ray import serve

from backend.api.app import Backend, create_app
from backend.api.passwords import short_password
from backend.engine.own_code import running_code
from backend.errors import SettingsError
from backend.logs import configure_logging
from backend.predict.build import build_images, engine_options
from backend.ray.cluster import nodes, on_any_machine
from backend.ray.engine import RayEngine
from backend.ray.replica import API, EngineReplica
from backend.ray.wire import Report
from backend.settings import Settings, load_settings
from backend.store.lock import StoreServed, take_lock
from backend.store.state_file import prepare_data_dir

LOCK_S = 120.0
"""How long an API replica waits for the one before it to leave the data folder."""
MAX_SLOTS = 16_384
HEAD = {"node:__internal_head__": 0.001}


class ServeArguments(BaseModel):
    """`replicas`: engines; None: one a GPU of the cluster, or one. `cpus_per_replica`: reserved for each."""

    model_config = ConfigDict(extra="forbid")

    replicas: int | None = Field(None, ge=1, le=512)
    cpus_per_replica: float = Field(1.0, ge=0)


def build(arguments: Mapping[str, Any]) -> Any:
    """The application, for `serve run` and `serve deploy`. `arguments` are those of ServeArguments, read here because
    Ray Serve does not understand annotations that are evaluated later."""
    asked = _read(arguments)
    settings = on_any_machine(load_settings())
    if not (settings.auth_required or settings.allow_no_auth):
        raise SettingsError(
            "Ray Serve listens where its configuration says, which may be a public address. Set BASIC_AUTH_PASS, or "
            "PRELABEL_ALLOW_NO_AUTH=true where nobody else can reach it."
        )
    if (short := short_password(settings)) and not settings.allow_no_auth:
        raise SettingsError(short)
    num_gpus = sum(node.num_gpus for node in nodes()) if ray.is_initialized() else 0
    on_gpus = num_gpus > 0 and settings.device != "cpu"
    quiet = {"enable_access_log": False}  # a line for each call of a replica; the app has one for each request
    num_replicas = asked.replicas or max(1, num_gpus if on_gpus else 1)
    engines = serve.deployment(
        name="engine",
        num_replicas=num_replicas,
        ray_actor_options={"num_cpus": asked.cpus_per_replica, "num_gpus": int(on_gpus)},
        # Twice the slots keep an engine busy; the rest is for people who wait while bulk work fills it.
        max_ongoing_requests=2 * settings.max_slots + settings.max_requests,
        health_check_period_s=5,
        health_check_timeout_s=30,
        graceful_shutdown_timeout_s=settings.stop_s,
        logging_config=quiet,
    )(EngineReplica)
    api = serve.deployment(
        name=API,
        num_replicas=1,
        ray_actor_options={"num_cpus": 0, "resources": HEAD},
        max_ongoing_requests=10_000,  # /health must never wait; the app bounds /predict itself
        graceful_shutdown_timeout_s=settings.stop_s + 5,
        logging_config=quiet,
    )(serve.ingress()(Api))
    return api.bind(settings, engines.bind(engine_options(settings, code=running_code())), num_replicas)


def _read(arguments: Mapping[str, Any]) -> ServeArguments:
    try:
        return ServeArguments.model_validate(dict(arguments))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise SettingsError(f"the application's arguments cannot be used: {problems}") from None


class Api:
    """The HTTP app. Replicas tell it how they are through `report`."""

    async def __init__(self, settings: Settings, engines: Any, num_replicas: int) -> None:  # type: ignore[misc]
        configure_logging(settings.log_level)
        # What is asked at the same time goes by the slots of all engines.
        slots = min(MAX_SLOTS, settings.max_slots * num_replicas)
        self._settings = settings.model_copy(update={"max_slots": slots})
        self._engine = RayEngine(engines, engine_options(settings).max_queue * num_replicas, num_replicas=num_replicas)
        prepare_data_dir(settings.data_dir)
        await _wait_until_free(settings.data_dir)

    def __serve_build_asgi_app__(self) -> Any:
        app = create_app(self._settings, self._engine, build_images(self._settings))
        backend: Backend = app.state.backend
        backend.parser.warm_up()
        return app

    def report(self, report: Report) -> None:
        self._engine.note(report)


async def _wait_until_free(data_dir: Path) -> None:
    """The app takes the lock itself. Raises StoreUnusable."""
    until = time.monotonic() + LOCK_S
    while True:
        try:
            return os.close(take_lock(data_dir))
        except StoreServed:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.5)
