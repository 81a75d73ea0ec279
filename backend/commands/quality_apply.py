"""`prelabel quality --project ID --apply`: what was found becomes the project's own rule, and two tabs.

Writes the threshold, for each field that people filled, into the extra params of the project's backend, where all else
that a person typed stays; and into the Data Manager the tab of what may pass unseen and that of the rest. What passes
as a whole is a task, so all of its fields have the task's threshold: then the mark for review and the tabs say the
same. Says what it does as it does it. Raises UsageError where nothing is guaranteed, and LabelStudioError.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from backend.commands.join import OURS, as_object
from backend.errors import UsageError
from backend.label_studio.client import Backend, LabelStudioClient
from backend.label_studio.tabs import arrange_threshold_tabs
from backend.quality.summary import Quality
from backend.quality.words import Sentences

OPTION = "review_thresholds"
PASSING, REVIEW = ("可直接通过", "May pass unseen"), ("需人工复核", "Needs review")
"""Titles of the tabs."""


def apply_threshold(
    client: LabelStudioClient, project_id: int, found: Quality, say: Sentences, tell: Callable[[str], None]
) -> None:
    """`tell` is given a sentence before each step."""
    threshold = found.threshold.threshold
    if threshold is None:
        raise UsageError(f"--apply: {say.passing(found)}")
    if found.unchecked:
        tell(say.unchecked(found))
    backend = _ours(client.backends(project_id), project_id)
    by_field = {field.name: threshold for field in found.fields if not field.is_text}
    tell(
        say(
            f"写入模型设置（{backend.url}）的 extra params：{OPTION} = {json.dumps(by_field, ensure_ascii=False)}；"
            "其他内容保持不变。",
            f"Writing into the extra params of the model settings ({backend.url}): {OPTION} = "
            f"{json.dumps(by_field, ensure_ascii=False)}; all else there stays.",
        )
    )
    client.set_extra_params(project_id, backend.id, {**as_object(backend.extra_params), OPTION: by_field})
    passing, review = say(*PASSING), say(*REVIEW)
    tell(
        say(
            f"在 Data Manager 中设置标签页“{passing}”（Prediction score ≥ {threshold:.2f}）和“{review}”。",
            f"Setting the tabs “{passing}” (Prediction score of {threshold:.2f} or more) and “{review}” in the Data "
            "Manager.",
        )
    )
    arrange_threshold_tabs(client, project_id, threshold, passing, review)
    tell(
        say(
            "已完成。已有的任务请再执行一次 Actions > Retrieve Predictions：答案只重新打分，不重新计算。",
            "Done. For the tasks that are there, choose Actions > Retrieve Predictions once more: answers are rated "
            "anew, none is computed again.",
        )
    )


def _ours(backends: list[Backend], project_id: int) -> Backend:
    """By its description, which `connect` gives it; without one, where it is the only backend."""
    ours = [one for one in backends if one.description == OURS] or backends
    if len(ours) != 1:
        listed = ", ".join(one.url for one in ours) or "none"
        raise UsageError(
            f"--apply: which backend of project {project_id} is prelabel's is not clear ({listed}). Run "
            f"`prelabel connect --project {project_id}` first."
        )
    return ours[0]
