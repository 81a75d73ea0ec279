"""/metrics: what `backend.metrics` has counted, and gauges of how things are now. Nothing here raises."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import get_args

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from backend.engine.api import EngineState, EngineStatus
from backend.status.view import ProjectView, QualityView, StatusView
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
        self._slower = Gauge(
            "prelabel_engine_slower",
            "1 for each thing that makes the engine slower than it should be",
            ["what"],
            registry=self.registry,
        )
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

        self._blind = self._of_project("blind_right", "Share of blind tasks with every label right")
        self._blind_low = self._of_project("blind_right_low", "The true share is at least this (95% interval)")
        self._blind_high = self._of_project("blind_right_high", "The true share is at most this (95% interval)")
        self._num_blind = self._of_project("blind_tasks", "Tasks labelled blind")
        self._num_filled = self._of_project("filled_tasks", "Tasks labelled with an answer in the form")
        self._unchanged = self._of_project("filled_unchanged", "Share of those submitted with no label changed")
        self._may_pass = self._of_project("may_pass", "Share of tasks that may pass unseen")
        self._faster = self._of_project("time_factor", "How many times as fast people are with an answer in the form")

    def _of_project(self, name: str, about: str) -> Gauge:
        return Gauge(f"prelabel_quality_{name}", about, ["project"], registry=self.registry)

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
        self._slower.clear()
        for what, _ in status.ready.slower if status.ready else ():
            self._slower.labels(what).set(1)
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
        self._set_quality(view.projects if view else ())

    def _set_quality(self, projects: Sequence[ProjectView]) -> None:
        """Of the projects that the status page shows and people have labelled; what is not known yet is left out."""
        known = {one.project_id: one.quality for one in projects if one.quality is not None and one.quality.zh}
        values: list[tuple[Gauge, Callable[[QualityView], float | None]]] = [
            (self._blind, lambda one: one.blind_share),
            (self._blind_low, lambda one: one.blind_low),
            (self._blind_high, lambda one: one.blind_high),
            (self._num_blind, lambda one: one.num_blind),
            (self._num_filled, lambda one: one.num_filled),
            (self._unchanged, lambda one: one.filled_share),
            (self._may_pass, lambda one: one.may_pass),
            (self._faster, lambda one: one.time_factor),
        ]
        for gauge, value_of in values:
            gauge.clear()
            for project, quality in known.items():
                if (value := value_of(quality)) is not None:
                    gauge.labels(project).set(value)
