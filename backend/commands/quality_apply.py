"""`prelabel quality --project ID --apply`, and `--apply-calibration`: what was found becomes the project's own rule.

Raises UsageError where there is nothing to write, or what is typed in the model settings asks for other answers than
those people judged; and LabelStudioError.

`--apply`: what passes unseen is a task, by its score, and the two tabs divide the tasks by that. A field is marked for
review below its own threshold where that is lower than the task's, else below the task's: what passes as a whole is
never marked for a label, and a field that is sure not for another's sake.

`--apply-calibration`: thresholds are of the scores they were found on, so those that there are go.
"""

from __future__ import annotations

from backend.commands.join import backend_as_measured
from backend.commands.model_settings import CALIBRATION, THRESHOLDS, ModelSettings
from backend.errors import UsageError
from backend.predict.options import ProjectOptions
from backend.quality.summary import Quality


def apply_threshold(to: ModelSettings, found: Quality, options: ProjectOptions) -> None:
    """`options`: under which `found` was."""
    threshold, say = found.threshold.threshold, to.say
    if threshold is None:
        raise UsageError(f"--apply: {say.passing(found)}")
    if found.unchecked:
        to.tell(say.unchecked(found))
    backend, typed = backend_as_measured(to.client, to.project_id, options, "--apply")
    own = {field.name: field.threshold.threshold for field in found.fields if field.threshold is not None}
    by_field = dict.fromkeys(found.unchecked, threshold)  # else review_threshold might mark them in what passes
    by_field |= {name: threshold if at is None else min(at, threshold) for name, at in own.items()}
    to.tell(
        say(
            f"字段单独的门槛低于任务的门槛 {threshold:.2f} 时用它自己的：低于它的标签才标为需要复核。",
            f"A field has its own threshold where that is lower than the task's {threshold:.2f}: below it, its label "
            "is marked for review.",
        )
    )
    to.write(backend, typed, {THRESHOLDS: by_field})
    passing, rest = to.divide_by(threshold)
    to.tell(
        say(
            f"已完成：“{passing}”中的任务可以直接通过，“{rest}”中的由人看（没有标记的也要看：保证的是整个任务，不是单个字段）。"
            "已有的任务请再执行一次 Actions > Retrieve Predictions：答案只重新打分，不重新计算。",
            f"Done: tasks in “{passing}” may pass unseen, those in “{rest}” are for people (also those without a mark: "
            "what is guaranteed is a task as a whole). For the tasks that are there, choose Actions > Retrieve "
            "Predictions once more: answers are rated anew, none is computed again.",
        )
    )


def apply_calibration(to: ModelSettings, found: Quality, options: ProjectOptions) -> None:
    """`options`: under which `found` was."""
    backend, typed = backend_as_measured(to.client, to.project_id, options, "--apply-calibration")
    measured = {field.name for field in found.fields}
    written = {name: at for name, at in options.calibration if name not in measured} | found.calibration
    if written == typed.get(CALIBRATION, {}):
        raise UsageError(
            "--apply-calibration: there is nothing to change: confidences are rated as the blind labels say (below 50 "
            "they change nothing)."
        )
    to.write(backend, to.without_thresholds(typed), {CALIBRATION: written})
    again = f"prelabel quality --project {to.project_id} --apply"
    to.tell(
        to.say(
            f"已完成。请执行 Actions > Retrieve Predictions（答案只重新打分，不重新计算），再用 {again} 重新找门槛。",
            "Done. Choose Actions > Retrieve Predictions (answers are rated anew, none is computed again), and find "
            f"the thresholds again: {again}",
        )
    )
