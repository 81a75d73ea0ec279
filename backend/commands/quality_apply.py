"""`prelabel quality --project ID --apply`, and `--apply-calibration`: what was found becomes the project's own rule.

Both write into the extra params of the project's backend, where all else that a person typed stays, and into the Data
Manager, and say what they do before they do it. Raises UsageError where there is nothing to write, or what is typed
there asks for other answers than those people judged; and LabelStudioError.

`--apply`: what passes unseen is a task, by its score, and the two tabs divide the tasks by that. A field is marked for
review below its own threshold where that is lower than the task's, else below the task's: what passes as a whole is
never marked for a label, and a field that is sure not for another's sake.

`--apply-calibration`: thresholds are of the scores they were found on, so those that there are go.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from backend.commands.join import backend_as_measured
from backend.errors import UsageError
from backend.label_studio.client import LabelStudioClient
from backend.label_studio.tabs import arrange_threshold_tabs, remove_threshold_tabs
from backend.logs import one_line, redact
from backend.predict.options import ProjectOptions
from backend.quality.summary import Quality
from backend.quality.words import Sentences
from backend.settings import Settings

THRESHOLDS, CALIBRATION = "review_thresholds", "calibration"
PASSING = (("可直接通过",), ("May pass unseen",))
REST = (("需人工复核", "未达门槛"), ("Needs review", "Below the threshold"))
"""Titles of the tabs, Chinese and English; the second where the first is another tab's."""


def client_of(settings: Settings) -> LabelStudioClient:
    """For what is written; it is to be entered."""
    key = settings.label_studio_api_key.get_secret_value()
    return LabelStudioClient(settings.label_studio_url, key, extra_ca_file=settings.extra_ca_file)


def tell(text: str) -> None:
    """What a command does, beside its result, which may be JSON."""
    print(one_line(redact(text)), file=sys.stderr)


def apply_threshold(
    client: LabelStudioClient,
    project_id: int,
    found: Quality,
    options: ProjectOptions,
    say: Sentences,
    tell: Callable[[str], None],
) -> None:
    """`options`: under which `found` was. `tell` is given a sentence before each step."""
    threshold = found.threshold.threshold
    if threshold is None:
        raise UsageError(f"--apply: {say.passing(found)}")
    if found.unchecked:
        tell(say.unchecked(found))
    backend, typed = backend_as_measured(client, project_id, options, "--apply")
    own = {field.name: field.threshold.threshold for field in found.fields if field.threshold is not None}
    by_field = dict.fromkeys(found.unchecked, threshold)  # else review_threshold might mark them in what passes
    by_field |= {name: threshold if at is None else min(at, threshold) for name, at in own.items()}
    told = json.dumps(by_field, ensure_ascii=False)
    tell(
        say(
            f"写入模型设置（{backend.url}）的 extra params：{THRESHOLDS} = {told}；其他内容保持不变。"
            f"字段单独的门槛低于任务的门槛 {threshold:.2f} 时用它自己的：低于它的标签才标为需要复核。",
            f"Writing into the extra params of the model settings ({backend.url}): {THRESHOLDS} = {told}; all else "
            f"there stays. A field has its own where that is lower than the task's {threshold:.2f}: below it, its "
            "label is marked for review.",
        )
    )
    client.set_extra_params(project_id, backend.id, {**typed, THRESHOLDS: by_field})
    tell(
        say(
            f"在 Data Manager 中设置两个标签页：Prediction score ≥ {threshold:.2f} 的任务，和其余的任务。",
            f"Setting two tabs in the Data Manager: tasks with a Prediction score of {threshold:.2f} or more, and the "
            "rest.",
        )
    )
    passing, rest = arrange_threshold_tabs(client, project_id, threshold, _titles(PASSING, say), _titles(REST, say))
    tell(
        say(
            f"已完成：“{passing}”中的任务可以直接通过，“{rest}”中的由人看（没有标记的也要看：保证的是整个任务，不是单个字段）。"
            "已有的任务请再执行一次 Actions > Retrieve Predictions：答案只重新打分，不重新计算。",
            f"Done: tasks in “{passing}” may pass unseen, those in “{rest}” are for people (also those without a mark: "
            "what is guaranteed is a task as a whole). For the tasks that are there, choose Actions > Retrieve "
            "Predictions once more: answers are rated anew, none is computed again.",
        )
    )


def apply_calibration(
    client: LabelStudioClient,
    project_id: int,
    found: Quality,
    options: ProjectOptions,
    say: Sentences,
    tell: Callable[[str], None],
) -> None:
    """`options`: under which `found` was. `tell` is given a sentence before each step."""
    backend, typed = backend_as_measured(client, project_id, options, "--apply-calibration")
    measured = {field.name for field in found.fields}
    written = {name: at for name, at in options.calibration if name not in measured} | found.calibration
    if written == typed.get(CALIBRATION, {}):
        raise UsageError(
            "--apply-calibration: there is nothing to change: confidences are rated as the blind labels say (below 50 "
            "they change nothing)."
        )
    told = json.dumps(written, ensure_ascii=False)
    tell(
        say(
            f"写入模型设置（{backend.url}）的 extra params：{CALIBRATION} = {told}。",
            f"Writing into the extra params of the model settings ({backend.url}): {CALIBRATION} = {told}.",
        )
    )
    typed = without_thresholds(client, project_id, typed, say, tell)
    client.set_extra_params(project_id, backend.id, {**typed, CALIBRATION: written})
    again = f"prelabel quality --project {project_id} --apply"
    tell(
        say(
            f"已完成。请执行 Actions > Retrieve Predictions（答案只重新打分，不重新计算），再用 {again} 重新找门槛。",
            "Done. Choose Actions > Retrieve Predictions (answers are rated anew, none is computed again), and find "
            f"the thresholds again: {again}",
        )
    )


def without_thresholds(
    client: LabelStudioClient, project_id: int, typed: dict[str, Any], say: Sentences, tell: Callable[[str], None]
) -> dict[str, Any]:
    """`typed` without those that `apply_threshold` wrote, whose tabs are taken away: for whoever changes the answers or
    the scores that they were found on."""
    thresholds = typed.get(THRESHOLDS)
    there = f"{THRESHOLDS} = {json.dumps(thresholds, ensure_ascii=False)}" if thresholds else THRESHOLDS
    tell(
        say(
            f"以前的门槛只对以前的分数成立：如果有，去掉 {there} 和 --apply 设置的两个标签页；其他内容保持不变。",
            f"Thresholds hold for the scores they were found on: taking out {there} and the two tabs of --apply, where "
            "they are there; all else stays.",
        )
    )
    remove_threshold_tabs(client, project_id, _titles(PASSING, say), _titles(REST, say))
    return {name: value for name, value in typed.items() if name != THRESHOLDS}


def _titles(names: tuple[tuple[str, ...], tuple[str, ...]], say: Sentences) -> tuple[str, ...]:
    """In the language of whoever asks first; tabs of the other language are known, too."""
    zh, en = names
    return (*zh, *en) if say("zh", "en") == "zh" else (*en, *zh)
