"""Every text of the report, in Chinese and English; numbers, times and failures are said as on the status page.

Knows words only. Nothing here raises.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar

from backend.bulk.report.reasons import Reason
from backend.pages.numbers import number
from backend.pages.words import Language, Words

TEXTS: dict[str, tuple[str, str]] = {
    "report": ("预标注报告", "Pre-annotation report"),
    "confidence": ("置信度", "Confidence"),
    "fields": ("标签分布", "Labels"),
    "gallery": ("置信度最低的图片", "Lowest confidence"),
    "failures": ("失败", "Failures"),
    "num_done": ("已标注", "Annotated"),
    "of_pictures": ("共 {num} 张图片", "of {num:picture|pictures}"),
    "skipped": ("其中此前已完成 {num} 张", "{num} of them in earlier runs"),
    "num_failed": ("失败", "Failed"),
    "none_failed": ("每张图片都有结果", "every picture has an answer"),
    "num_review": ("需人工复核", "Needs review"),
    "of_done": ("占已标注的 {share}", "{share} of the annotated"),
    "num_withheld": ("盲检保留", "Withheld for the blind audit"),
    "withheld_note": (
        "{num} 张图片为盲检保留：它们的答案只在记录文件中，这里和其他导出文件都不显示，以便不看答案直接标注。",
        "{num:picture is|pictures are} withheld for the blind audit: the answer stands in the file of records alone, "
        "not here and not in the other files, so that people label without one to look at.",
    ),
    "share_of_all": ("占处理过的 {share}", "{share} of those tried"),
    "unflagged": ("未被标记复核", "Not flagged for review"),
    "unflagged_note": (
        "“未被标记”不等于“正确”：标记只看模型自己的把握和几条规则，找不出所有错误。要知道正确率，请抽查一部分，"
        "未被标记的也要抽。",
        "“Not flagged” does not mean “right”: the flag knows how sure the model is and a few rules, and does not find "
        "every mistake. To know how many are right, check a sample by hand, some not flagged among them.",
    ),
    "not_reached": ("未处理", "Not reached"),
    "cost": ("费用", "Cost"),
    "time": ("用时", "Time"),
    "load": ("另加载模型 {time}", "plus {time} to load the model"),
    "this_run": ("本次 {num} 张", "{num} in this run"),
    "price": ("{price} 元/分钟，每 1 万张约 {yuan}", "at ¥{price} a minute, {yuan} per 10,000"),
    "interrupted": (
        "运行被中断，还有 {num} 张图片没有处理。用同样的命令再次运行即可继续，已完成的不会重复。",
        "The run was interrupted with {num:picture|pictures} left. The same command again goes on where it stopped.",
    ),
    "stopped": (
        "运行未能继续，还有 {num} 张图片没有处理。排除问题后用同样的命令再次运行即可继续。",
        "The run could not go on, with {num:picture|pictures} left. Remove the cause and run the same command again.",
    ),
    "interrupted_unknown": (
        "运行被中断，未统计全部图片。用同样的命令再次运行即可继续，已完成的不会重复。",
        "The run was interrupted before all pictures were counted. Run the same command again: it goes on.",
    ),
    "stopped_unknown": (
        "运行未能继续，未统计全部图片。排除问题后用同样的命令再次运行即可继续。",
        "The run could not go on. Once the cause is removed, run the same command again: it goes on.",
    ),
    "left_out": ("未标注 {num} 项：{why}。{what}例如：", "{num} left out. {why}. {what} Such as"),
    "unreadable": (
        "输出文件中有 {num} 行无法读取，未计入。",
        "{num:line|lines} of the output files could not be read, and nothing there is counted.",
    ),
    "empty": ("没有标注结果", "No picture was annotated"),
    "score": ("整体置信度", "Overall confidence"),
    "score_note": (
        "每张图片取各标签中最低的置信度；置信度是模型自己的把握，不是正确率",
        "of each picture, the lowest of its labels; it says how sure the model is, not how often it is right",
    ),
    "reasons": ("复核原因", "Why review is needed"),
    "reasons_note": (
        "一张图片可有多个原因；占比按需复核的图片计算",
        "a picture may have several; shares are of the pictures for review",
    ),
    "no_reasons": ("没有图片被标记复核", "No picture is flagged for review"),
    "mean": ("平均 {share}", "mean {share}"),
    "no_confidence": ("没有置信度", "no confidence"),
    "num_labels": ("{num} 种标签", "{num:label|labels}"),
    "multiple": ("可多选，合计可超过 100%", "several are allowed, so shares may add up to more than 100%"),
    "others": ("其他 {num} 种标签", "{num:other label|other labels}"),
    "left_empty": ("未填写", "left empty"),
    "stars": ("{num} 星", "{num:star|stars}"),
    "label": ("标签", "Label"),
    "share": ("占比", "Share"),
    "count": ("数量", "Pictures"),
    "average": ("平均", "Average"),
    "shortest": ("最短", "Shortest"),
    "longest": ("最长", "Longest"),
    "characters": ("字数", "characters"),
    "number_facts": ("平均 {mean}，{low}–{high}", "mean {mean}, {low} to {high}"),
    "pictures": ("{num} 张", "{num:picture|pictures}"),
    "gallery_note": (
        "按整体置信度从低到高，共 {num} 张；带橙色边的需人工复核",
        "{num:picture|pictures}, lowest overall confidence first; an orange edge marks those for review",
    ),
    "more_pictures": ("再显示 {num} 张", "Show {num} more"),
    "minutes": ("{num} 分", "{num} min"),
    "high": ("{high} 及以上占 {share}", "{share} at {high} or above"),
    "no_thumbnail": ("无缩略图", "No thumbnail"),
    "no_failures": ("没有失败的图片", "No picture failed"),
    "file": ("文件", "File"),
    "message": ("说明", "Message"),
    "more_failures": ("另有 {num} 个，见失败清单文件", "and {num} more, in the file of failures"),
    "other_reasons": ("其他原因", "Other reasons"),
    "model": ("模型", "Model"),
    "sources": ("来源", "Source"),
    "output": ("结果文件", "Output"),
    "finished": ("完成于", "Finished"),
    "more_sources": ("等 {num} 个", "{num} in all"),
    "made_by": ("由 prelabel 生成，可离线打开", "Made by prelabel; opens offline"),
}

REASONS: dict[str, tuple[str, str]] = {
    "truncated": ("生成被截断，答案不完整", "the answer was cut by the token limit"),
    "very_long": ("图片过长，细节可能看不清", "very long, details may not be seen"),
    "missing_label": ("缺少标签", "no label"),
    "missing_text": ("缺少描述", "no text"),
    "low_confidence": ("置信度 {found}，低于 {rule}", "confidence {found}, below {rule}"),
    "uncertain_words": ("出现“{rule}”", "says “{rule}”"),
    "too_short": ("只有 {found} 字，少于 {rule} 字", "length {found}, below {rule} characters"),
    "cut_off": ("写满了 {rule} 字，可能不完整", "fills all {rule} characters, may be cut off"),
    "not_chinese": ("不是中文", "not in Chinese"),
    "not_english": ("含有中文", "contains Chinese"),
    "repetition": ("内容重复", "repeats itself"),
}
GROUPS = {
    **REASONS,
    "low_confidence": ("置信度低于 {rule}", "confidence below {rule}"),
    "too_short": ("少于 {rule} 字", "fewer than {rule} characters"),
}
"""As REASONS, without what differs from picture to picture."""


class ReportWords(Words):
    """Texts in one language; `titles` are the names of the fields for people."""

    texts: ClassVar = {**Words.texts, **TEXTS}

    def __init__(self, language: Language, titles: dict[str, str]) -> None:
        super().__init__(language)
        self._titles = titles

    def listed(self, labels: Sequence[str]) -> str:
        return ("、" if self.language == "zh" else ", ").join(labels)

    def review_reason(self, reason: Reason, *, group: bool = False) -> str:
        if reason.code not in REASONS:
            return reason.text
        said = (GROUPS if group else REASONS)[reason.code][self._column]
        told = said.format(found=reason.found, rule=reason.rule)
        separator = "：" if self.language == "zh" else ": "
        return f"{self._titles.get(reason.field, reason.field)}{separator}{told}" if reason.field else told

    def yuan(self, amount: float) -> str:
        return f"<{super().yuan(0.01)}" if 0 < amount < 0.005 else super().yuan(amount)

    def time_of_day(self, at: float) -> str:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))

    def short_duration(self, seconds: float) -> str:
        """As `duration`, but "0.8 s" under ten seconds."""
        return self("seconds", num=number(seconds, 1)) if 0 < seconds < 10 else self.duration(seconds)


def plain(value: float, decimals: int = 2) -> str:
    """A number of any size with at most `decimals` decimals and no more than it needs."""
    text = number(value, decimals)
    return text.rstrip("0").rstrip(".") if "." in text else text
