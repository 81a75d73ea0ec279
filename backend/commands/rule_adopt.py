"""`prelabel quality --project ID --try-rule TEXT --adopt`: the rule becomes the project's own.

It goes into the extra params of the project's backend. The thresholds that are there hold for the earlier answers, so
they go, and so do their tabs in the Data Manager. Raises UsageError and LabelStudioError.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from backend.commands.join import backend_as_measured
from backend.commands.quality_apply import CALIBRATION, without_thresholds
from backend.errors import UsageError
from backend.label_studio.client import LabelStudioClient
from backend.predict.options import ProjectOptions
from backend.quality.words import Sentences

OPTION = "extra_instructions"


def adopt_rule(
    client: LabelStudioClient,
    number: int,
    before: ProjectOptions,
    instructions: str,
    say: Sentences,
    tell: Callable[[str], None],
) -> None:
    """Write `instructions` in the place of those of `before`, under which the rule was tried, and take out the
    thresholds of the earlier answers; all else that a person typed stays. `tell` is given a sentence before each step.
    Raises UsageError where something else is typed now."""
    backend, typed = backend_as_measured(client, number, before, "--adopt")
    if str(typed.get(OPTION) or "") != before.extra_instructions:
        raise UsageError(
            f"--adopt: the {OPTION} in the model settings of project {number} are none that can be used, so the rule "
            "was tried without them and would take their place. Nothing was written. Correct them first."
        )
    written = json.dumps({OPTION: instructions}, ensure_ascii=False)
    tell(
        say(
            f"写入模型设置（{backend.url}）的 extra params：{written}。",
            f"Writing into the extra params of the model settings ({backend.url}): {written}.",
        )
    )
    typed = without_thresholds(client, number, typed, say, tell)
    client.set_extra_params(number, backend.id, {**typed, OPTION: instructions})
    tell(
        say(
            "已完成。模型版本随之改变：已有的任务请再执行一次 Actions > Retrieve Predictions，答案会重新计算。",
            "Done. The model version changes with it: for the tasks that are there choose Actions > Retrieve "
            "Predictions once more, and their answers are computed anew.",
        )
    )
    if CALIBRATION in typed:
        tell(
            say(
                f"{CALIBRATION} 是在原来的答案上得到的：有了新答案之后，请重新确定。",
                f"{CALIBRATION} was found on the answers before it: find it again once there are new answers.",
            )
        )
