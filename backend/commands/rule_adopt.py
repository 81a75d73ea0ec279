"""`prelabel quality --project ID --try-rule TEXT --adopt`: the rule becomes the project's own.

It goes into the extra params of the project's backend. The thresholds that are there hold for the earlier answers, so
they go, and so do their tabs in the Data Manager. Raises UsageError and LabelStudioError.
"""

from __future__ import annotations

from backend.commands.join import backend_as_measured
from backend.commands.model_settings import CALIBRATION, ModelSettings
from backend.errors import UsageError
from backend.predict.options import ProjectOptions

OPTION = "extra_instructions"


def adopt_rule(to: ModelSettings, before: ProjectOptions, instructions: str) -> None:
    """Write `instructions` in the place of those of `before`, under which the rule was tried, and take out the
    thresholds of the earlier answers; all else that a person typed stays. Raises UsageError where something else is
    typed now."""
    backend, typed = backend_as_measured(to.client, to.project_id, before, "--adopt")
    if str(typed.get(OPTION) or "") != before.extra_instructions:
        raise UsageError(
            f"--adopt: the {OPTION} in the model settings of project {to.project_id} are none that can be used, so the "
            "rule was tried without them and would take their place. Nothing was written. Correct them first."
        )
    to.write(backend, to.without_thresholds(typed), {OPTION: instructions})
    to.tell(
        to.say(
            "已完成。模型版本随之改变：已有的任务请再执行一次 Actions > Retrieve Predictions，答案会重新计算。",
            "Done. The model version changes with it: for the tasks that are there choose Actions > Retrieve "
            "Predictions once more, and their answers are computed anew.",
        )
    )
    if CALIBRATION in typed:
        to.tell(
            to.say(
                f"{CALIBRATION} 是在原来的答案上得到的：有了新答案之后，请重新确定。",
                f"{CALIBRATION} was found on the answers before it: find it again once there are new answers.",
            )
        )
