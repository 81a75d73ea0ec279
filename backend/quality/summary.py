"""What the command, the file and the page say of the quality of answers: one plain value. Nothing raises.

Two kinds of tasks are never added up. *Blind* ones were labelled by people who did not see the answer: what they say of
it is unbiased, and only they can carry a guarantee. Of *pre-filled* ones people saw the answer first, and let more pass
than they would have chosen (K. Schroeder et al., arXiv 2507.15821): their share is how often nothing was corrected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from backend.quality.calibration import MIN_LABELS, fitted_temperature
from backend.quality.drift import FALSE_ALARM, Drift, Look, drift, look_of
from backend.quality.intervals import Share, share_of
from backend.quality.lead_times import TimeSaved, time_saved
from backend.quality.measures import (
    Bin,
    Confusion,
    FieldTally,
    Matrix,
    Measures,
    WrongTask,
    calibration_error,
    reliability,
)
from backend.quality.people import Labelled
from backend.quality.threshold import Step, Threshold, guaranteed_threshold, steps
from label_config.rating import uncalibrated
from label_config.schema import LabelSchema, TextField

MAX_CONFUSIONS_SHOWN = 10
MAX_MATRIX_LABELS = 8

FindThreshold = Callable[[Sequence[tuple[float, bool]], float, float], Threshold]
"""`guaranteed_threshold`, or `threshold_at_looks`."""


@dataclass(frozen=True, slots=True)
class FieldQuality:
    """One field. `blind` and `filled`: share right in each kind of task. `right_by_level`, `precision`, `recall` and
    `mean_error` are of blind ones, or of pre-filled ones where none of the field is blind; `kept` the other way round:
    what of a text was left is to be seen where it was shown. `is_of_blind` says of which they are; None where the kind
    of field has no such thing. `threshold`, `temperature`, `reliability` and `calibration_error` are of blind ones
    alone; of fewer than MIN_LABELS there is no error. `temperature`: what the model's own confidence should be rated
    by, and `rated_by` what it is rated by now. `confusions` and `matrix` count both."""

    name: str
    title: str
    is_text: bool
    blind: Share
    filled: Share
    is_of_blind: bool
    right_by_level: tuple[Share, ...]
    precision: float | None
    recall: float | None
    kept: float | None
    mean_error: float | None
    calibration_error: float | None
    reliability: tuple[Bin, ...]
    temperature: float | None
    rated_by: float
    confusions: tuple[Confusion, ...]
    matrix: Matrix | None
    threshold: Threshold | None


@dataclass(frozen=True, slots=True)
class Quality:
    """`blind`, `filled`: tasks of which all labels are right. `threshold`: of the task's score, on blind tasks; `steps`
    is what each that was tried would let pass, of the same tasks. `wrong`: the tasks with a wrong label that scored
    highest.

    `unfilled`: fields that nobody filled. `unchecked`: those with labels that nobody filled in a blind task: `blind`
    and `threshold` say nothing of them. Where nobody filled any label, `blind` is of no task (and so is `filled`).

    `agreement`: tasks on which all people agree, of those that several labelled. `unused`: entries that say nothing of
    an answer, by reason; `num_entries` = `num_blind` + `num_filled` + all of `unused`. `task_url`: where tasks go by
    their numbers in Label Studio, that and a task's name are its address, and `project` is the project's; else "".
    `drift`: nothing that was found holds for later tasks, and there is no threshold any more. `has_thresholds`: the
    project marks what is to be reviewed by thresholds of single fields, as --apply writes them.
    """

    num_entries: int
    num_blind: int
    num_filled: int
    unused: Mapping[str, int]
    model_versions: Mapping[str, int]
    blind: Share
    filled: Share
    threshold: Threshold
    steps: tuple[Step, ...]
    wrong: tuple[WrongTask, ...]
    fields: tuple[FieldQuality, ...]
    unfilled: tuple[str, ...]
    unchecked: tuple[str, ...]
    time_saved: TimeSaved | None
    agreement: Share
    task_url: str = ""
    project: str = ""
    drift: Drift | None = None
    has_thresholds: bool = False

    @property
    def is_unfounded(self) -> bool:
        """Whether the project has thresholds that nothing guarantees now."""
        return self.has_thresholds and self.threshold.threshold is None

    @property
    def calibration(self) -> dict[str, float]:
        """The temperatures that confidences should be rated by: all there are, for where they are written they take the
        place of others."""
        return {one.name: one.temperature for one in self.fields if one.temperature not in (None, 1.0)}


def quality_of(
    schema: LabelSchema,
    tasks: Iterable[Labelled],
    unused: Mapping[str, int],
    *,
    target: float,
    delta: float,
    calibration: Mapping[str, float] | None = None,
    answered: Iterable[Look] = (),
    find: FindThreshold = guaranteed_threshold,
) -> Quality:
    """`tasks` are read once. `unused` is read when they have ended. `calibration`: the temperatures that the answers'
    confidences have been rated by. `answered`: all tasks with an answer, in the order of time, for `drift`; read last.
    `find`: `threshold_at_looks` where people look all the time; then blind tasks come in the order in which they became
    known. See `guaranteed_threshold` for the rest."""
    blind, filled, both = Measures(schema), Measures(schema), Measures(schema)
    versions = Counter[str]()
    blind_s, filled_s = list[float](), list[float]()
    checked = list[Look]()
    num_agree = num_several = 0
    for task in tasks:
        for measures in (filled if task.saw_answer else blind, both):
            measures.add(task.answer, task.truth, task.name)
        if not task.saw_answer:
            checked.append(look_of(schema, task.name, task.answer))
        versions[task.model_version] += 1
        if task.lead_s is not None:
            (filled_s if task.saw_answer else blind_s).append(task.lead_s)
        if task.agrees is not None:
            num_several += 1
            num_agree += task.agrees
    scored = blind.scored if blind.right.num else []
    threshold = find(scored, target, delta)
    found = Quality(
        num_entries=both.num + sum(unused.values()),
        num_blind=blind.num,
        num_filled=filled.num,
        unused=dict(unused),
        model_versions=dict(versions),
        blind=blind.right,
        filled=filled.right,
        threshold=threshold,
        steps=tuple(step for step in steps(scored[: threshold.num_all], threshold.spent) if step.num),
        wrong=both.wrong,
        fields=tuple(
            _field(
                tally,
                blind.fields.get(name),
                filled.fields.get(name),
                lambda scored: find(scored, target, delta),
                (calibration or {}).get(name, 1.0),
            )
            for name, tally in both.fields.items()
        ),
        unfilled=tuple(found.name for found in schema.fields if found.name not in both.fields),
        unchecked=tuple(
            found.name
            for found in schema.fields
            if blind.right.num and found.name not in blind.fields and not isinstance(found, TextField)
        ),
        time_saved=time_saved(blind_s, filled_s),
        agreement=share_of(num_agree, num_several),
    )
    # of the checked tasks that the threshold was found on: whoever adds each further one compares everything anew
    changed = drift(checked[: threshold.num_all], answered, FALSE_ALARM * threshold.spent / threshold.delta)
    return found if changed is None else _withdrawn(found, changed)


def _withdrawn(found: Quality, changed: Drift) -> Quality:
    """No threshold is left in it, so that nobody who reads one alone lets anything pass."""
    fields = tuple(replace(f, threshold=f.threshold and replace(f.threshold, threshold=None)) for f in found.fields)
    return replace(found, threshold=replace(found.threshold, threshold=None), fields=fields, drift=changed)


def _field(
    both: FieldTally,
    blind: FieldTally | None,
    filled: FieldTally | None,
    find: Callable[[Sequence[tuple[float, bool]]], Threshold],
    temperature: float,
) -> FieldQuality:
    is_text = isinstance(both.of, TextField)
    scored = blind.scored if blind else []
    told = (filled or blind if is_text else blind or filled) or both
    own = [(uncalibrated(confidence, temperature), is_right) for confidence, is_right in scored]
    return FieldQuality(
        name=both.of.name,
        title=both.of.title or both.of.name,
        is_text=is_text,
        blind=blind.right if blind else share_of(0, 0),
        filled=filled.right if filled else share_of(0, 0),
        is_of_blind=told is blind,
        right_by_level=told.right_by_level,
        precision=told.precision,
        recall=told.recall,
        kept=told.kept,
        mean_error=told.mean_error,
        calibration_error=calibration_error(scored) if len(scored) >= MIN_LABELS else None,
        reliability=reliability(scored),
        temperature=None if is_text else fitted_temperature(own, temperature),
        rated_by=temperature,
        confusions=both.confusions(MAX_CONFUSIONS_SHOWN),
        matrix=both.matrix(MAX_MATRIX_LABELS),
        threshold=None if is_text else find(scored),
    )
