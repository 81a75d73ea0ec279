"""/metrics: what `backend.metrics` has counted, and gauges of how things are now. Nothing here raises."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import get_args

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from backend.engine.api import EngineState, EngineStatus
from backend.status.serve_checks import engine_checks
from backend.status.view import ProjectView, QualityView, StatusView
from backend.store.types import WorkState

_OF_QUALITY: tuple[tuple[str, str, Callable[[QualityView], float | None]], ...] = (
    ("blind_right", "Share of blind tasks with every label right", lambda one: one.blind_share),
    ("blind_right_low", "The true share is at least this (95% interval)", lambda one: one.blind_low),
    ("blind_right_high", "The true share is at most this (95% interval)", lambda one: one.blind_high),
    ("blind_tasks", "Tasks labelled blind", lambda one: one.num_blind),
    ("filled_tasks", "Tasks labelled with an answer in the form", lambda one: one.num_filled),
    ("filled_unchanged", "Share of those submitted with no label changed", lambda one: one.filled_share),
    ("may_pass", "Share of tasks that may pass unseen", lambda one: one.may_pass),
    ("time_factor", "How many times as fast people are with an answer in the form", lambda one: one.time_factor),
)


def metrics_text(counted: CollectorRegistry, status: EngineStatus, view: StatusView | None = None) -> bytes:
    """The text Prometheus scrapes. Without a `view` (the store cannot be read), its gauges are NaN, not stale."""
    return generate_latest(counted) + generate_latest(_Now(status, view))


class _Now(Collector):
    def __init__(self, status: EngineStatus, view: StatusView | None) -> None:
        self._status = status
        self._view = view

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield from _of_engine(self._status)
        yield from _of_store(self._view)
        yield from _of_quality(self._view.projects if self._view else ())


def _of_engine(status: EngineStatus) -> Iterator[GaugeMetricFamily]:
    stats, ready = status.stats, status.ready
    positions = {"used": stats.num_kv_tokens, "all": ready.kv_tokens if ready else 0}
    seconds = {"prefill": stats.prefill_s, "decode": stats.decode_s}
    slower = dict.fromkeys((check.code for check in engine_checks(status)), 1)
    states = {state: state == status.state for state in get_args(EngineState)}
    put_back = "Times a bulk request lost its blocks of the KV cache to older ones, since the model was loaded"
    yield _gauge("engine_queued", "Requests that wait in the engine", status.num_queued)
    yield _gauge("engine_running", "Requests the engine works on", status.num_running)
    yield _gauge("engine_restarts", "Times the engine was restarted", status.num_restarts)
    yield _gauge("engine_steps", "Decode steps since the model was loaded", stats.num_steps)
    yield _gauge("engine_prefills", "Prefills since the model was loaded", stats.num_prefills)
    yield _gauge("engine_put_back", put_back, stats.num_put_back)
    yield _gauges("engine_kv_tokens", "Positions of the KV cache", "state", positions)
    yield _gauges("engine_device_seconds", "Time of the device by phase", "phase", seconds)
    yield _gauge("engine_memory_gib", "Peak memory of the device", stats.memory_gib)
    yield _gauges("engine_slower", "1 for each thing that makes the engine slower than it should be", "what", slower)
    yield _gauges("engine_state", "1 for the present state", "state", states)


def _of_store(view: StatusView | None) -> Iterator[GaugeMetricFamily]:
    nan = math.nan
    work = {state.value: view.totals.work[state.value] if view else nan for state in WorkState}
    yield _gauges("work", "Tasks in the store by state, over all projects", "state", work)
    yield _gauge("work_needs_review", "Answers marked for review", view.totals.num_needs_review if view else nan)
    yield _gauge("images_per_second", "Tasks ended in the last minute", view.speed.images_per_s if view else nan)
    yield _gauge("delivered", "Present predictions in Label Studio", view.totals.num_delivered if view else nan)
    dropped, paused = (view.delivery.num_dropped, view.delivery.paused_until is not None) if view else (nan, nan)
    yield _gauge("delivery_failures", "Tasks whose answers Label Studio can never take", dropped)
    yield _gauge("delivery_paused", "1 while Label Studio refuses the API key", paused)


def _of_quality(projects: Sequence[ProjectView]) -> Iterator[GaugeMetricFamily]:
    """Of the projects that the status page shows and people have labelled; what is not known yet is left out."""
    known = {one.project_id: one.quality for one in projects if one.quality is not None and one.quality.zh}
    for name, about, value_of in _OF_QUALITY:
        values = {project: value for project, one in known.items() if (value := value_of(one)) is not None}
        yield _gauges(f"quality_{name}", about, "project", values)


def _gauge(name: str, about: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"prelabel_{name}", about, value)


def _gauges(name: str, about: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    """One for each value of `label`."""
    family = GaugeMetricFamily(f"prelabel_{name}", about, labels=[label])
    for told, value in values.items():
        family.add_metric([told], value)
    return family
