"""How the `StatusView` is made: from the engine's state, the store's counts, and what others last said of a project.

Pure: knows neither the store nor HTTP. Messages of others are put on one line and redacted here. Nothing here raises.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from backend.label_studio.address import shown_url
from backend.logs import one_line, redact
from backend.pages.engine_words import Why
from backend.status.check import Check, troubles
from backend.status.view import (
    CostView,
    DeliveryView,
    FailedTask,
    ModelView,
    ProjectNote,
    ProjectView,
    QualityView,
    SpeedView,
    StatusView,
    TotalsView,
)
from backend.store.types import ProjectSummary, Work, WorkState

if TYPE_CHECKING:  # rooms beside this one: their forms, none of their code
    from backend.delivery.loop import DeliveryStatus
    from backend.delivery.tabs import ReviewLeft
    from backend.delivery.upkeep import Known, Note
    from backend.engine.api import EngineStatus
    from backend.quality.watch import Looked
    from backend.settings import Settings

RATE_WINDOW_S = 60.0
MAX_MESSAGE_CHARS = 300
_UNDELIVERABLE = (
    "config_changed", "rejected", "refused", "too_large", "not_a_task", "unreadable",
)  # fmt: skip
_BULK = 10_000
"""What a price is named for: 10,000 pictures."""


def make_view(
    engine: EngineStatus,
    summaries: Sequence[ProjectSummary],
    failures: Mapping[str, Sequence[Work]],
    rate: float,
    delivery: DeliveryStatus,
    settings: Settings,
    now: float,
    *,
    set_aside: str = "",
    titles: Mapping[str, str] | None = None,
    checks: Sequence[Check] = (),
    upkeep: Mapping[str, Known] | None = None,
    review_left: Mapping[str, ReviewLeft] | None = None,
    people: Mapping[str, Looked] | None = None,
    max_projects: int | None = None,
) -> StatusView:
    """`failures`, `titles`, `upkeep`, `review_left` and `people` are by project, as `summaries` name it; `rate` is rows
    a second over RATE_WINDOW_S.

    Only the first `max_projects` are shown; queue, speed and cost are of all.
    """
    speed = _speed(engine, summaries, rate)
    base = shown_url(settings.label_studio_url, settings.label_studio_public_url)
    shown = summaries[:max_projects]
    return StatusView(
        now=now,
        model=_model(engine),
        speed=speed,
        cost=_cost(engine, speed, settings.price_per_minute),
        delivery=_delivery(delivery, summaries, base),
        totals=_totals(summaries),
        set_aside=one_line(set_aside),
        projects=tuple(
            _project(
                s,
                failures.get(s.project, ()),
                (titles or {}).get(s.project, ""),
                (upkeep or {}).get(s.project),
                (review_left or {}).get(s.project),
                (people or {}).get(s.project),
                base,
            )
            for s in shown
        ),
        num_more_projects=len(summaries) - len(shown),
        problems=tuple(_problem(check) for check in troubles(checks)),
    )


def _model(engine: EngineStatus) -> ModelView:
    return ModelView(
        name=engine.ready.model_name if engine.ready else "",
        quantisation=engine.ready.quantisation if engine.ready else "",
        device=engine.ready.device if engine.ready else "",
        state=engine.state,
        stage=engine.stage,
        progress=min(1.0, max(0.0, engine.fraction)),
        num_restarts=engine.num_restarts,
        message=_told(engine.message),
        stage_left_s=engine.left_s,
        bytes_per_s=engine.bytes_per_s,
        stalled_s=engine.stalled_s,
        why=_told_why(engine.why),
        card=_told(engine.ready.card) if engine.ready else "",
        other_cards=tuple(map(_told, engine.ready.other_cards)) if engine.ready else (),
        card_named=engine.ready.card_named if engine.ready else False,
        ended=_told(engine.ended),
        ended_why=_told_why(engine.ended_why),
    )


def _told_why(why: Sequence[Why]) -> tuple[Why, ...]:
    return tuple(Why(one.code, {name: _told(value) for name, value in one.values.items()}) for one in why)


def _speed(engine: EngineStatus, summaries: Sequence[ProjectSummary], rate: float) -> SpeedView:
    waiting = sum(s.states.get(WorkState.QUEUED, 0) for s in summaries)
    running = sum(s.states.get(WorkState.RUNNING, 0) for s in summaries)
    eta_s: float | None = None
    if not waiting + running:
        eta_s = 0.0
    elif rate > 0 and engine.state == "ready":
        eta_s = (waiting + running) / rate
    return SpeedView(waiting, running, rate, eta_s)


def _cost(engine: EngineStatus, speed: SpeedView, price: float | None) -> CostView:
    busy_s = engine.stats.prefill_s + engine.stats.decode_s
    if price is None:
        return CostView(busy_s, None, None, None, None)
    bulk_s = _BULK / speed.images_per_s if speed.images_per_s > 0 else None
    return CostView(busy_s, price, _yuan(busy_s, price), _yuan(speed.eta_s, price), _yuan(bulk_s, price))


def _yuan(seconds: float | None, price: float) -> float | None:
    return None if seconds is None else seconds / 60 * price


def _delivery(status: DeliveryStatus, summaries: Sequence[ProjectSummary], base: str) -> DeliveryView:
    return DeliveryView(
        mode="push" if status.configured else "reply",
        url=base,
        last_success_at=status.last_success_at,
        last_error=_told(status.last_error),
        last_reason=status.last_reason,
        last_error_at=status.last_error_at,
        paused_until=status.paused_until,
        num_dropped=sum(s.failures.get(reason, 0) for s in summaries for reason in _UNDELIVERABLE),
    )


def _totals(summaries: Sequence[ProjectSummary]) -> TotalsView:
    return TotalsView(
        work={state.value: sum(s.states.get(state, 0) for s in summaries) for state in WorkState},
        num_delivered=sum(s.num_delivered for s in summaries),
        num_needs_review=sum(s.num_needs_review for s in summaries),
    )


def _project(
    summary: ProjectSummary,
    failed: Sequence[Work],
    title: str,
    known: Known | None,
    left: ReviewLeft | None,
    looked: Looked | None,
    base: str,
) -> ProjectView:
    def num(state: WorkState) -> int:
        return summary.states.get(state, 0)

    number = summary.project.partition(".")[0]
    project_id = number if re.fullmatch(r"[0-9]{1,18}", number) else ""
    url = f"{base}/projects/{project_id}/data" if base and project_id else ""
    answered = num(WorkState.DONE) + num(WorkState.WITHHELD) + num(WorkState.RETURNED) + summary.num_delivered
    total = answered + num(WorkState.FAILED) + num(WorkState.QUEUED) + num(WorkState.RUNNING)
    return ProjectView(
        project=summary.project,
        project_id=project_id,
        title=one_line(title)[:MAX_MESSAGE_CHARS],
        url=url,
        num_queued=num(WorkState.QUEUED),
        num_running=num(WorkState.RUNNING),
        num_done=num(WorkState.DONE),
        num_withheld=num(WorkState.WITHHELD),
        num_returned=num(WorkState.RETURNED),
        num_delivered=summary.num_delivered,
        num_answered=answered,
        num_cancelled=num(WorkState.CANCELLED),
        num_failed=num(WorkState.FAILED),
        num_needs_review=summary.num_needs_review,
        num_older=summary.num_older,
        gone=_by_reason(summary.gone),
        done_by_people=_by_reason(summary.done_by_people),
        num_stale=known.num_stale if known else 0,
        note=_note(known.note) if known and known.note else None,
        progress=answered / total if total else 0.0,
        num_review_left=left.num_tasks + max(0, summary.num_needs_review - left.num_told) if left else None,
        review_url=f"{url}?tab={left.tab}" if url and left and left.tab is not None else "",
        failures=_by_reason(summary.failures),
        failed_tasks=tuple(_failed(work, url) for work in failed),
        first_accepted_at=summary.first_accepted_at,
        last_accepted_at=summary.last_accepted_at,
        last_finished_at=summary.last_finished_at,
        last_delivered_at=summary.last_delivered_at,
        quality=_quality(looked) if looked else None,
    )


def _quality(looked: Looked) -> QualityView:
    found = looked.quality
    blind = found.blind if found and found.blind.num else None
    passes = found.threshold if found and found.drift is None and found.threshold.threshold is not None else None
    return QualityView(
        model_version=looked.model_version,
        num_blind=found.num_blind if found else 0,
        num_filled=found.num_filled if found else 0,
        blind_share=blind.share if blind else None,
        blind_low=blind.low if blind else None,
        blind_high=blind.high if blind else None,
        filled_share=found.filled.share if found else None,
        time_factor=found.time_saved.factor
        if found and found.time_saved and found.time_saved.low is not None
        else None,
        threshold=passes.threshold if passes else None,
        may_pass=passes.num / passes.num_all if passes else None,
        zh=tuple(map(one_line, looked.zh)),
        en=tuple(map(one_line, looked.en)),
        read_at=looked.read_at,
        error=_told(looked.error),
    )


def _by_reason(counts: Mapping[str, int]) -> dict[str, int]:
    return {one_line(reason): count for reason, count in counts.items()}


def _problem(check: Check) -> Check:
    return replace(check, values={name: _told(value) for name, value in check.values.items()})


def _note(note: Note) -> ProjectNote:
    return ProjectNote(note.kind, note.at, _told(note.text), note.num)


def _failed(work: Work, url: str) -> FailedTask:
    return FailedTask(
        work.task_id, one_line(work.reason), _told(work.message), f"{url}?task={work.task_id}" if url else ""
    )


def _told(message: str) -> str:
    """A message of another part, on one line and without secrets."""
    return one_line(redact(" ".join(message.split())))[:MAX_MESSAGE_CHARS]
