"""All that people are told about a running backend, as one plain value: the page, /status.json, `prelabel status` and
/metrics show the same `StatusView`.

Pure: knows neither the store nor HTTP, and no language; what is said in words here are others' messages, redacted.
Times are seconds since the epoch, ages and durations seconds, money yuan. Nothing here raises.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from backend.pages.engine_words import Why
from backend.status.check import Check

DeliveryMode = Literal["push", "reply"]
"""Answers are pushed to Label Studio, or (no API key) only go out when Label Studio asks."""


@dataclass(frozen=True, slots=True)
class ModelView:
    """`state` is the engine's; `stage` and `progress` (0..1) are of loading, as are `stage_left_s`, until the stage is
    over, None while nobody can tell, and `bytes_per_s`, 0 where the stage is not about bytes. `device` is where it
    works, as torch names it; "" with no model; `card` is the card's own name, `other_cards` what is to be said of those
    that were not taken, where nobody named one; `card_named`: PRELABEL_DEVICE does. `stalled_s`: for how long no bytes
    have come. `why` says `message` for pages in other languages, `ended_why` `ended`: why it was started again last."""

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
    stalled_s: float = 0.0
    why: tuple[Why, ...] = ()
    card: str = ""
    other_cards: tuple[str, ...] = ()
    card_named: bool = False
    ended: str = ""
    ended_why: tuple[Why, ...] = ()


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
