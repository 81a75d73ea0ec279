"""Every text of the quality page, in Chinese and English, what to do next among them. Knows words only.

Nothing here raises.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import ClassVar

from backend.pages.numbers import number, roughly, rounded
from backend.pages.outside import shown
from backend.pages.words import Language, Words
from backend.quality.intervals import LEVEL
from backend.quality.looks import first_check
from backend.quality.measures import Bin
from backend.quality.rule_words import to_propose
from backend.quality.rules import MIN_TOLD
from backend.quality.summary import FieldQuality, Quality
from backend.quality.words import Sentences

_MIN_CONFUSIONS = 3
_MAX_RULES = 3
_NOTABLE = 0.03
"""Confidence and share right may differ by so much before anybody is asked to do something."""
_NEAR = 0.1
"""A temperature that differs by a smaller share from the one in force changes nothing that anybody would notice."""
_LABEL_CHARS = 80
_JSON_CHARS = 2_000

TEXTS: dict[str, tuple[str, str]] = {
    "quality": ("预标注质量报告", "How good the pre-labels are"),
    "todo": ("接下来做什么", "What to do next"),
    "blind": ("所有标签都正确", "Every label right"),
    "blind_note": ("盲检 {num} 张，真实值在 {low}–{high} 之间", "{num} checked blind; the truth is {low} to {high}"),
    "filled_note": ("预标注过的 {num} 张中未改动，偏高", "unchanged in {num} pre-filled; reads too high"),
    "passing": ("可直接通过", "May pass unseen"),
    "passing_note": (
        "分数 ≥ {at}，错误不超过 {target}（{sure} 的把握）",
        "score {at} or more: {target} wrong at most, {sure} sure",
    ),
    "void": ("已失效", "Void"),
    "void_note": ("图片与盲检过的不再相似", "the pictures are not like those checked"),
    "not_yet": ("还不能", "None yet"),
    "not_yet_note": ("至少还需盲检约 {num} 张", "at least about {num} more to check blind"),
    "no_blind_note": ("需要先盲检一部分", "some have to be checked blind first"),
    "no_labels_note": ("盲检时没有人填写过标签", "nobody filled a label when checking blind"),
    "look_note": ("盲检满 {next} 张时计算，现在 {now} 张", "next look at {next:blind label|blind labels}; {now} now"),
    "too_few_note": (
        "分数最高的 {num} 张里错了 {wrong} 张，还说不出要多少张",
        "of the {num} with the highest scores {wrong:is|are} wrong: too few to say how many it takes",
    ),
    "too_wrong_note": ("分数最高的也错得太多", "even the highest scores are wrong too often"),
    "faster": ("标注速度", "Speed of labelling"),
    "times": ("{factor} 倍", "{factor} x"),
    "faster_note": (
        "每张 {blind} 秒（{num_blind} 张）→ {filled} 秒（{num_filled} 张）",
        "{blind} s a picture without ({num_blind}), {filled} s with it ({num_filled})",
    ),
    "between_note": ("；真实值在 {low}–{high} 倍之间", "; the truth is {low} to {high} x"),
    "no_times_note": ("没有盲检和预标注两种用时可比", "no times of both kinds to compare"),
    "curve": ("放行越多，错得越多", "The more pass unseen, the more are wrong"),
    "curve_note": (
        "从左到右放行的图片越来越多（分数从高到低）。实线是盲检中看到的正确率；虚线是有 {sure} 把握的下限，"
        "抽检越少，离实线越远。红线是目标：虚线第一次低于红线之前，就是能保证的门槛（圆点）。",
        "From left to right more pictures pass, the highest scores first. The line is the share that was right in the "
        "blind check; the dashes are what is {sure} sure, further below the fewer were checked. The red line is the "
        "target: the threshold that can be guaranteed (the dot) stands before the dashes first cross it.",
    ),
    "measured": ("看到的正确率", "right, as seen"),
    "bound": ("有把握的下限", "right, surely"),
    "target": ("目标", "target"),
    "share_passing": ("放行的比例", "share that passes"),
    "fields": ("各个字段", "Field by field"),
    "reliability": ("置信度可信吗", "Does the confidence mean what it says"),
    "reliability_note": (
        "置信度图：横轴是模型说的把握，纵轴是实际正确率，竖线是 95% 区间。点在斜线上：说到做到；在斜线下：说得太满。",
        "Charts of confidence: across, how sure the model said it was; up, how many were right, with 95% intervals. On "
        "the slope it keeps its word, below it promises too much.",
    ),
    "confusions": ("最容易混淆的标签", "Labels confused most"),
    "confusions_note": (
        "混淆表：每行是模型给的标签，每列是正确的标签；颜色越深，这样改的次数越多。只列出最容易混淆的几种。",
        "Tables of confusions: a row is what was answered, a column what is right; the darker, the more often. Only "
        "the labels confused most.",
    ),
    "answered": ("模型给的", "answered"),
    "right": ("正确的", "right"),
    "nothing": ("（空）", "(none)"),
    "worst": ("最有把握的错误", "Wrong, and sure of it"),
    "worst_note": (
        "按分数从高到低：分数达到门槛的，虽然是错的也会直接通过。先看它们有没有共同点，或者是不是人标错了。",
        "Highest score first: those at the threshold or above pass, wrong as they are. Look what they have in common, "
        "or whether the label is wrong.",
    ),
    "no_worst": ("标注过的图片里没有错误", "No label was wrong in what people checked"),
    "confidence": ("置信度", "confidence"),
    "no_thumbnail": ("无缩略图", "No thumbnail"),
    "open_task": ("打开任务", "Open the task"),
    "unused": ("没有用上的", "Not used"),
    "made_by": ("由 prelabel 生成，可离线打开", "Made by prelabel; opens offline"),
}


class QualityWords(Words):
    """Texts in one language; `titles` are the names of the fields for people."""

    texts: ClassVar = {**Words.texts, **TEXTS}

    def __init__(self, language: Language, titles: Mapping[str, str]) -> None:
        super().__init__(language)
        self.say = Sentences(language)
        self._titles = titles

    def title(self, field: str) -> str:
        return shown(self._titles.get(field, field), _LABEL_CHARS)

    def label(self, label: str) -> tuple[str, str]:
        """Short, as the end of a path, and whole."""
        whole = shown(label, _LABEL_CHARS) or self("nothing")
        return whole.rpartition(" / ")[2], whole

    def field(self, field: FieldQuality) -> list[str]:
        """What is known of one field, a sentence each."""
        title = self.title(field.name)
        told = []
        if field.blind.num:
            right, num = field.blind, number(field.blind.num)
            share, low, high = map(rounded, (right.share or 0.0, right.low, right.high))
            told.append(
                self.say(
                    f"抽检 {num} 张，{title}正确 {share}，真实值在 {low}–{high} 之间（{LEVEL:.0%} 的把握）。",
                    f"{num} checked blind: {title} is right in {share}; the true share lies between {low} and {high} "
                    f"({LEVEL:.0%} sure).",
                )
            )
        if field.filled.num:
            share, num = rounded(field.filled.share or 0.0), number(field.filled.num)
            told.append(
                self.say(
                    f"预标注过的 {num} 张，{share} 没有改动（偏高，不是准确率）。",
                    f"Of {num} pre-filled, {share} left unchanged (too high for an accuracy).",
                )
            )
        if field.threshold is not None and field.threshold.num_all:
            told.append(self.say.threshold_of_field(field.threshold))
        if details := self.say.details(field):
            told.append(details + self.say("。", "."))
        return told

    def said_and_right(self, one: Bin) -> str:
        said, right = rounded(one.mean_confidence), rounded(one.right.share or 0.0)
        return self.say(
            f"模型说有 {said} 把握的 {number(one.num)} 张里，实际正确 {right}",
            f"of {number(one.num)} said with {said} confidence, {right} are right",
        )

    def confused(self, answered: str, right: str, num: int) -> str:
        return f"{self.label(answered)[1]} → {self.label(right)[1]}: {number(num)}"

    def todo(self, quality: Quality) -> list[str]:
        """What a project manager can do now, the most telling first."""
        return [*self._check(quality), *self._pass(quality), *self._rules(quality), *self._calibrate(quality)]

    def _check(self, quality: Quality) -> Iterator[str]:
        found = quality.threshold
        num = number(first_check(found.target, found.delta))
        if quality.drift is not None:
            yield self.say(
                f"图片变了：请从最近的图片中随机选约 {num} 张重新盲检，再运行一次"
                "（--project 时可用 --since 只看最近的）。",
                f"The pictures have changed: have about {num} of the latest, chosen by chance, checked blind, "
                "and run this again (with --project, --since leaves the older ones out).",
            )
        elif quality.num_blind and not quality.blind.num:
            yield self.say(
                "请让盲检的人也填写标签：没有人填写过任何标签，就不知道答案对不对。",
                "Have whoever checks blind fill the labels, too: as long as nobody does, it is not known whether "
                "answers are right.",
            )
        elif not quality.num_blind:
            yield self.say(
                f"请随机选约 {num} 张，在不显示预标注的情况下标注，再运行一次（prelabel connect --audit 5 "
                "会从还没有预标注过的任务中随机留出 5%）：没有盲检，既不知道准确率，也不能保证什么。",
                f"Have about {num} pictures, chosen by chance, labelled without showing the answers, and run "
                "this again (prelabel connect --audit 5 keeps 5% of the tasks that had no answer yet for it): without "
                "them neither the accuracy is known nor can anything be guaranteed.",
            )
        elif found.threshold is None and found.next_look is not None and not found.is_too_wrong:
            yield self.say(
                f"请继续盲检，就可能有一部分可以直接通过：{self.say.next_look(found)}",
                f"Have more checked blind, and some may pass unseen: {self.say.next_look(found)}",
            )
        elif found.threshold is None and found.num_missing is not None:
            yield self.say(
                f"再盲检约 {roughly(found.num_missing)} 张，就可能有一部分可以直接通过。",
                f"Check about {roughly(found.num_missing)} more blind, and some may pass unseen.",
            )

    def _pass(self, quality: Quality) -> Iterator[str]:
        at = quality.threshold.threshold
        if at is not None:
            yield self.say(
                f"在 Data Manager 中筛选 Prediction score ≥ {at:.2f} 的任务：可以直接通过，不必逐张看；"
                f"其余的交给人看。设 review_threshold 为 {at:.2f}，以后的任务会自动标出"
                "（prelabel quality --project 加 --apply 会设好各字段的门槛和两个标签页）。",
                f"In the Data Manager, filter Prediction score of {at:.2f} or more: these may pass unseen, the rest is "
                f"for people. With review_threshold at {at:.2f} later tasks are marked by themselves (prelabel quality "
                "--project with --apply sets one for each field, and two tabs).",
            )

    def _rules(self, quality: Quality) -> Iterator[str]:
        """Both directions of a confusion are one."""
        often: Counter[tuple[str, frozenset[str]]] = Counter()
        for field in quality.fields:
            for pair in field.confusions:
                often[field.name, frozenset((pair.answered, pair.right))] += pair.num
        for (name, labels), num in often.most_common(_MAX_RULES):
            is_of_project = quality.project and all(labels)
            if num >= (MIN_TOLD if is_of_project else _MIN_CONFUSIONS):
                one, other = sorted(self.label(label)[0] for label in labels)
                how = (
                    to_propose(quality.project, self.say)
                    if is_of_project
                    else self.say(
                        "请在 extra_instructions 里写清两者的区别。", "Say in extra_instructions how the two differ."
                    )
                )
                yield self.say(
                    f"{self.title(name)}：“{one}”与“{other}”混淆了 {number(num)} 次。{how}",
                    f"{self.title(name)}: “{one}” and “{other}” were confused {number(num):time|times}. {how}",
                )

    def _calibrate(self, quality: Quality) -> Iterator[str]:
        """Not where something may pass, or before anybody looked whether it may: it would be less, for all fields'
        confidences count for the score. Nor again what is in force, as near as labels tell."""
        if quality.threshold.threshold is not None or not quality.threshold.num_all:
            return
        changed = [
            field
            for field in quality.fields
            if field.temperature is not None and not math.isclose(field.temperature, field.rated_by, rel_tol=_NEAR)
        ]
        if any((field.calibration_error or 0.0) > _NOTABLE for field in changed):
            written = shown(json.dumps({"calibration": quality.calibration}, ensure_ascii=False), _JSON_CHARS)
            yield self.say(
                f"置信度与实际正确率不符。在模型设置的 extra params 中写入 {written}"
                "（prelabel quality --project 加 --apply-calibration 会写好）：标签不变，以后的分数会更可信，"
                "已有的答案只重新打分；然后重新找门槛。",
                f"Confidence and share right differ. Write {written} into the extra params of the model settings "
                "(prelabel quality --project with --apply-calibration does it): no label changes, scores mean more, "
                "and stored answers are only rated anew; then find the threshold again.",
            )
