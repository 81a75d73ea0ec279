"""/metrics: what `backend.metrics` has counted, and gauges of how things are now. Nothing here raises."""

from __future__ import annotations

import math
from typing import get_args

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from backend.engine.api import EngineState, EngineStatus
from backend.status.view import StatusView
from backend.store.types import WorkState


class Gauges:
    """Into the registry of the counters. One for each app."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._queued = Gauge("prelabel_engine_queued", "Requests that wait in the engine", registry=self.registry)
        self._running = Gauge("prelabel_engine_running", "Requests the engine works on", registry=self.registry)
        self._restarts = Gauge("prelabel_engine_restarts", "Times the engine was restarted", registry=self.registry)
        self._steps = Gauge("prelabel_engine_steps", "Decode steps since the model was loaded", registry=self.registry)
        self._prefills = Gauge(
            "prelabel_engine_prefills", "Prefills since the model was loaded", registry=self.registry
        )
        self._put_back = Gauge(
            "prelabel_engine_put_back",
            "Times a bulk request lost its blocks of the KV cache to older ones, since the model was loaded",
            registry=self.registry,
        )
        self._kv_tokens = Gauge(
            "prelabel_engine_kv_tokens", "Positions of the KV cache", ["state"], registry=self.registry
        )
        self._device_s = Gauge(
            "prelabel_engine_device_seconds", "Time of the device by phase", ["phase"], registry=self.registry
        )
        self._memory = Gauge("prelabel_engine_memory_gib", "Peak memory of the device", registry=self.registry)
        self._state = Gauge("prelabel_engine_state", "1 for the present state", ["state"], registry=self.registry)
        self._work = Gauge(
            "prelabel_work", "Tasks in the store by state, over all projects", ["state"], registry=self.registry
        )
        self._needs_review = Gauge("prelabel_work_needs_review", "Answers marked for review", registry=self.registry)
        self._rate = Gauge("prelabel_images_per_second", "Tasks ended in the last minute", registry=self.registry)
        self._delivered = Gauge(
            "prelabel_delivered",
            "Present predictions in Label Studio",
            registry=self.registry,
        )
        self._dropped = Gauge(
            "prelabel_delivery_failures", "Tasks whose answers Label Studio can never take", registry=self.registry
        )
        self._paused = Gauge(
            "prelabel_delivery_paused", "1 while Label Studio refuses the API key", registry=self.registry
        )

    def render(self, status: EngineStatus, view: StatusView | None = None) -> bytes:
        """The text Prometheus scrapes. Without a `view` (the store cannot be read), its gauges are NaN, not stale."""
        self._set_view(view)
        self._queued.set(status.num_queued)
        self._running.set(status.num_running)
        self._restarts.set(status.num_restarts)
        self._steps.set(status.stats.num_steps)
        self._prefills.set(status.stats.num_prefills)
        self._put_back.set(status.stats.num_put_back)
        self._kv_tokens.labels("used").set(status.stats.num_kv_tokens)
        self._kv_tokens.labels("all").set(status.ready.kv_tokens if status.ready else 0)
        self._device_s.labels("prefill").set(status.stats.prefill_s)
        self._device_s.labels("decode").set(status.stats.decode_s)
        self._memory.set(status.stats.memory_gib)
        for state in get_args(EngineState):
            self._state.labels(state).set(1 if state == status.state else 0)
        return generate_latest(self.registry)

    def _set_view(self, view: StatusView | None) -> None:
        nan = math.nan
        for state in WorkState:
            self._work.labels(state.value).set(view.totals.work[state.value] if view else nan)
        self._needs_review.set(view.totals.num_needs_review if view else nan)
        self._delivered.set(view.totals.num_delivered if view else nan)
        self._rate.set(view.speed.images_per_s if view else nan)
        self._dropped.set(view.delivery.num_dropped if view else nan)
        self._paused.set((view.delivery.paused_until is not None) if view else nan)
