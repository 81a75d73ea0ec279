"""Many engines seen as one: the last report of every replica, added up to an `EngineStatus`.

A replica that has been silent for FRESH_S is gone; Ray starts another. All replicas must have loaded the same model,
those that come later the first one's, or answers would carry another's version: else the state is failed. Fewer than
there should be serve, and that is told.
Pure but for the clock; nothing raises.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from time import monotonic

from backend.engine.api import EngineState, EngineStatus
from backend.engine.messages import WAITS_FOR_OTHERS, Loading, Ready, Stats
from backend.pages.engine_words import Why
from backend.pages.words import Words
from backend.ray.wire import Report

FRESH_S = 10.0
GIVEN_UP_S = 180.0
"""Ray Serve tries a replica that failed anew within about a minute; after this silence it has stopped trying."""
_WAITING = "replica"


@dataclass(slots=True)
class _Noted:
    report: Report
    at: float


class Board:
    def __init__(self, clock: Callable[[], float] = monotonic, num_wanted: int = 1) -> None:
        self._clock = clock
        self._num_wanted = num_wanted
        self._noted: dict[str, _Noted] = {}
        self._num_lost = 0
        self._lost_restarts = 0
        self._last_failure = ""
        self._last_why: tuple[Why, ...] = ()
        self._heard_at = clock()
        self._first = ""

    def note(self, report: Report) -> None:
        self._heard_at = self._clock()
        self._noted[report.replica] = _Noted(report, self._heard_at)
        if report.status.state == "failed":
            self._last_failure = f"{report.place}: {report.status.message}"
            self._last_why = (Why("engine_at", {"place": report.place}), *report.status.why)

    @property
    def status(self) -> EngineStatus:
        """`num_restarts` counts replaced replicas, too."""
        self._forget_silent()
        states = [noted.report.status for noted in self._noted.values()]
        at_work = [status for status in states if status.state == "ready" and status.ready]
        ended = next((status for status in states if status.ended), EngineStatus("stopped"))
        num_restarts = self._num_lost + self._lost_restarts + sum(status.num_restarts for status in states)
        total = EngineStatus(
            "loading",
            num_queued=sum(status.num_queued for status in states),
            num_running=sum(status.num_running for status in states),
            num_restarts=num_restarts,
            ended=ended.ended,
            ended_why=ended.ended_why,
            stats=_sum([status.stats for status in states]),
        )
        if at_work:
            return self._ready(total, at_work)
        return self._not_ready(total, states)

    def _ready(self, total: EngineStatus, at_work: Sequence[EngineStatus]) -> EngineStatus:
        loaded = [status.ready for status in at_work if status.ready]
        models = sorted({ready.identity for ready in loaded})
        if len(models) == 1:
            self._first = self._first or models[0]
        if models != [self._first]:
            why = (
                Why("engine_replicas_differ", {"models": " and ".join(models)})
                if len(models) > 1
                else Why("engine_other_model", {"first": self._first, "now": models[0]}),
            )
            return replace(total, state="failed", message=Words("en").why(why), why=why)
        ready = _together(loaded)
        if len(loaded) >= self._num_wanted:
            self._last_failure, self._last_why = "", ()
        else:
            said = "; ".join(filter(None, (f"{len(loaded)} / {self._num_wanted}", self._last_failure, self._waits_for)))
            ready = replace(ready, slower=(("slow_replicas", said), *ready.slower))
        return replace(total, state="ready", stage="ready", fraction=1.0, ready=ready)

    @property
    def _waits_for(self) -> str:
        """What the first replica that waits for others waits for, as for its card."""
        waiting = (noted.report for noted in self._noted.values() if noted.report.status.stage in WAITS_FOR_OTHERS)
        return next((f"{report.place}: {report.status.message}" for report in waiting), "")

    def _not_ready(self, total: EngineStatus, states: Sequence[EngineStatus]) -> EngineStatus:
        loading = [status for status in states if status.state == "loading"]
        if loading:
            ahead = max(loading, key=lambda status: status.fraction)
            at = {field.name: getattr(ahead, field.name) for field in fields(Loading)}
            at |= {"stalled_s": ahead.stalled_s, "why": ahead.why or self._last_why}
            return replace(total, **at, message=ahead.message or self._last_failure)
        if any(status.state == "restarting" for status in states):
            first = next(status for status in states if status.state == "restarting")
            return replace(total, state="restarting", message=first.message, why=first.why)
        is_over = not states and self._clock() - self._heard_at > GIVEN_UP_S
        if self._last_failure and (states or is_over):
            return replace(total, state="failed", message=self._last_failure, why=self._last_why)
        state: EngineState = "restarting" if self._first else "loading"
        return replace(total, state=state, stage=_WAITING, message=self._last_failure, why=self._last_why)

    def _forget_silent(self) -> None:
        now = self._clock()
        for replica in [name for name, noted in self._noted.items() if now - noted.at > FRESH_S]:
            lost = self._noted.pop(replica).report.status
            self._lost_restarts += lost.num_restarts
            self._num_lost += lost.state != "stopped"  # that one was told to


def _together(loaded: Sequence[Ready]) -> Ready:
    first = loaded[0]
    return replace(
        first,
        device=first.device if len(loaded) == 1 else f"{len(loaded)} x {first.device}",
        load_s=max(ready.load_s for ready in loaded),
        max_slots=sum(ready.max_slots for ready in loaded),
        kv_tokens=sum(ready.kv_tokens for ready in loaded),
        slower=tuple({code: (code, why) for ready in loaded for code, why in ready.slower}.values()),
    )


def _sum(stats: Sequence[Stats]) -> Stats:
    """`memory_gib` is the most that one device uses, `slower` what slows any of them."""
    if not stats:
        return Stats()
    names = [field.name for field in fields(Stats) if field.name != "slower"]
    summed = {name: sum(getattr(one, name) for one in stats) for name in names}
    slower = {code: said for one in stats for code, said in one.slower}
    return replace(Stats(**summed), memory_gib=max(one.memory_gib for one in stats), slower=tuple(slower.items()))
