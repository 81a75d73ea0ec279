"""All that people are told about a running backend, as one plain value: the page, /status.json, `prelabel status` and
/metrics show the same `StatusView`.

Pure: knows neither the store nor HTTP, and no language; what is said in words here are others' messages, redacted.
Times are seconds since the epoch, ages and durations seconds, money yuan. Nothing here raises.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from backend.label_studio.address import shown_url
from backend.logs import one_line, redact
from backend.status.check import Check, troubles
from backend.store.types import ProjectSummary, Work, WorkState

if TYPE_CHECKING:  # `prelabel status` need not wait for what they bring
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

DeliveryMode = Literal["push", "reply"]
"""Answers are pushed to Label Studio, or (no API key) only go out when Label Studio asks."""


@dataclass(frozen=True, slots=True)
class ModelView:
    """`state` is the engine's; `stage` and `progress` (0..1) are of loading, as are `stage_left_s`, until the stage is
    over, None while nobody can tell, and `bytes_per_s`, 0 where the stage is not about bytes. `device` is where it
    works, as torch names it; "" with no model."""

    name: str
    quantisation: str
    device: str
    state: str
    stage: str
    progress: float
    num_restarts: int
    message: str
    stage_left_s: float | None = None
    bytes_per_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SpeedView:
    """`images_per_s` over the last minute, failures included; `eta_s` is None while nobody can tell."""

    num_waiting: int
    num_running: int
    images_per_s: float
    eta_s: float | None


@dataclass(frozen=True, slots=True)
class CostView:
    """`busy_s`: the device's own work (prefill and decode) since the model was loaded; `busy_yuan` is its price.

    `rest_yuan` and `bulk_yuan` (10,000 pictures) follow from the speed of the last minute. None: not known.
    """

    busy_s: float
    yuan_per_minute: float | None
    busy_yuan: float | None
    rest_yuan: float | None
    bulk_yuan: float | None


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """`num_dropped`: tasks that failed because Label Studio can never take their answers. `paused_until`: its token is
    refused. `last_reason` is what is known of `last_error`: one of `backend.reasons`, or ""."""

    mode: DeliveryMode
    url: str
    last_success_at: float | None
    last_error: str
    last_reason: str
    last_error_at: float | None
    paused_until: float | None
    num_dropped: int


@dataclass(frozen=True, slots=True)
class FailedTask:
    task_id: int
    reason: str
    message: str
    url: str


@dataclass(frozen=True, slots=True)
class ProjectNote:
    """What prelabel did in the project's settings in Label Studio: see `backend.delivery.upkeep.Note`."""

    kind: str
    at: float
    text: str
    num: int


@dataclass(frozen=True, slots=True)
class QualityView:
    """How good the answers under `model_version` are, by what people did in Label Studio; "" and no numbers while they
    did nothing. Blind: tasks whose label was chosen without seeing an answer; `blind_share` of `num_blind` have every
    label right, the true share lies in `blind_low`..`blind_high`. `filled_share` of `num_filled` pre-filled tasks were
    submitted unchanged. What scores `threshold` or more may pass: `may_pass` of all; None where nothing may, or not any
    more. `time_factor`: how many times as
    fast people are with an answer in the form. `zh` and `en` say it in sentences. `read_at`: when it was last read, 0.0
    never; `error`: why it cannot be read now."""

    model_version: str
    num_blind: int
    num_filled: int
    blind_share: float | None
    blind_low: float | None
    blind_high: float | None
    filled_share: float | None
    time_factor: float | None
    threshold: float | None
    may_pass: float | None
    zh: tuple[str, ...]
    en: tuple[str, ...]
    read_at: float
    error: str


@dataclass(frozen=True, slots=True)
class ProjectView:
    """Tasks, each counted once, under the present model version. `num_done` waits for delivery, `num_returned` went out
    in a reply, `num_withheld` is for the blind audit, until a person has labelled it. `num_delivered` counts what the
    store has forgotten since, and so does `num_answered`, the sum of the four. `progress`: the share of the tasks that
    is answered (0..1); what failed is not. `num_older`: tasks that were answered under an earlier label config, options
    or model; `num_stale`: predictions of those in Label Studio. `url` is its Data Manager, "" if not known. Not counted
    among the tasks: `gone`, by reason, which Label Studio does not have any more; and `done_by_people`, by the reason
    for which they had failed, which people have annotated since.

    `num_needs_review` were marked for review, ever; `num_review_left` of them nobody has submitted yet, as Label Studio
    said last, with those answered since; None while that is not known. `review_url` is the tab that shows them, "" if
    there is none. `quality` is None until what people did was looked for."""

    project: str
    project_id: str
    title: str
    url: str
    num_queued: int
    num_running: int
    num_done: int
    num_withheld: int
    num_returned: int
    num_delivered: int
    num_answered: int
    num_cancelled: int
    num_failed: int
    num_needs_review: int
    num_older: int
    gone: dict[str, int]
    done_by_people: dict[str, int]
    num_stale: int
    note: ProjectNote | None
    num_review_left: int | None
    review_url: str
    progress: float
    failures: dict[str, int]
    failed_tasks: tuple[FailedTask, ...]
    first_accepted_at: float
    last_accepted_at: float
    last_finished_at: float | None
    last_delivered_at: float | None
    quality: QualityView | None = None


@dataclass(frozen=True, slots=True)
class TotalsView:
    """Of all projects, those not shown too, under their present model versions. `work`: tasks by state, as far as kept;
    `num_delivered`: ever."""

    work: dict[str, int]
    num_delivered: int
    num_needs_review: int


@dataclass(frozen=True, slots=True)
class StatusView:
    """`set_aside` is the damaged store that was moved away at the start, "" if there was none. `projects`: the one
    asked for last first; `num_more_projects` were left out. `problems`: the checks that found something."""

    now: float
    model: ModelView
    speed: SpeedView
    cost: CostView
    delivery: DeliveryView
    totals: TotalsView
    set_aside: str
    projects: tuple[ProjectView, ...]
    num_more_projects: int
    problems: tuple[Check, ...] = ()


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
    )


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
    blind = found.blind if found and found.num_blind else None
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
