"""A project's model settings in Label Studio, for what `prelabel quality` found: it goes into the extra params, where
all else that a person typed stays, and into the Data Manager's tabs. A sentence is told before each step.

Raises LabelStudioError.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from backend.label_studio.client import Backend, LabelStudioClient
from backend.label_studio.tabs import arrange_threshold_tabs, remove_threshold_tabs
from backend.logs import one_line, redact
from backend.predict.options import RATING
from backend.quality.words import Sentences
from backend.settings import Settings

THRESHOLDS, CALIBRATION = RATING
PASSING = (("可直接通过",), ("May pass unseen",))
REST = (("需人工复核", "未达门槛"), ("Needs review", "Below the threshold"))
"""Titles of the tabs, Chinese and English; the second where the first is another tab's."""


def tell(text: str) -> None:
    """What a command does, beside its result, which may be JSON."""
    print(one_line(redact(text)), file=sys.stderr)


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """`say` has each sentence in a language, `tell` is given it."""

    client: LabelStudioClient
    project_id: int
    say: Sentences
    tell: Callable[[str], None]

    def write(self, backend: Backend, typed: dict[str, Any], changed: dict[str, Any]) -> None:
        """Put `changed` into the extra params of `backend`, which are `typed` now."""
        told = json.dumps(changed, ensure_ascii=False)
        self.tell(
            self.say(
                f"写入模型设置（{backend.url}）的 extra params：{told}；其他内容保持不变。",
                f"Writing into the extra params of the model settings ({backend.url}): {told}; all else there stays.",
            )
        )
        self.client.set_extra_params(self.project_id, backend.id, {**typed, **changed})

    def without_thresholds(self, typed: dict[str, Any]) -> dict[str, Any]:
        """`typed` without those of `--apply`, whose tabs are taken away: for whoever changes the answers or the scores
        that they were found on."""
        thresholds = typed.get(THRESHOLDS)
        there = f"{THRESHOLDS} = {json.dumps(thresholds, ensure_ascii=False)}" if thresholds else THRESHOLDS
        self.tell(
            self.say(
                f"以前的门槛只对以前的分数成立：如果有，去掉 {there} 和 --apply 设置的两个标签页；其他内容保持不变。",
                f"Thresholds hold for the scores they were found on: taking out {there} and the two tabs of --apply, "
                "where they are there; all else stays.",
            )
        )
        remove_threshold_tabs(self.client, self.project_id, self._titles(PASSING), self._titles(REST))
        return {name: value for name, value in typed.items() if name != THRESHOLDS}

    def divide_by(self, threshold: float) -> tuple[str, str]:
        """Set the two tabs, and return their titles: of tasks with that score or more, and of the rest."""
        self.tell(
            self.say(
                f"在 Data Manager 中设置两个标签页：Prediction score ≥ {threshold:.2f} 的任务，和其余的任务。",
                f"Setting two tabs in the Data Manager: tasks with a Prediction score of {threshold:.2f} or more, and "
                "the rest.",
            )
        )
        passing, rest = self._titles(PASSING), self._titles(REST)
        return arrange_threshold_tabs(self.client, self.project_id, threshold, passing, rest)

    def _titles(self, names: tuple[tuple[str, ...], tuple[str, ...]]) -> tuple[str, ...]:
        """In the language of whoever asks first; tabs of the other language are known, too."""
        zh, en = names
        return (*zh, *en) if self.say("zh", "en") == "zh" else (*en, *zh)


@contextmanager
def model_settings(settings: Settings, project_id: int) -> Iterator[ModelSettings]:
    """Of the Label Studio and in the language that `settings` name."""
    key = settings.label_studio_api_key.get_secret_value()
    with LabelStudioClient(settings.label_studio_url, key, extra_ca_file=settings.extra_ca_file) as client:
        yield ModelSettings(client, project_id, Sentences(settings.language), tell)
