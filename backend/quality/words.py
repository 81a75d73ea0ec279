"""The quality of answers in sentences, Chinese and English, for people who know no statistics. Nothing raises."""

from __future__ import annotations

import time
from collections.abc import Iterator

from backend.pages.numbers import exactly, number, plain, roughly, rounded, seconds
from backend.pages.words import Language
from backend.quality.intervals import LEVEL, Share
from backend.quality.lead_times import TimeSaved
from backend.quality.rule_words import next_step
from backend.quality.summary import FieldQuality, Quality
from backend.quality.threshold import Threshold

_UNUSED: dict[str, tuple[str, str]] = {
    "not_labelled": ("还没有人标注", "nobody has labelled it yet"),
    "cancelled": ("标注者跳过了", "skipped by whoever opened it"),
    "from_predictions": (
        "标注由预测直接生成，没有人看过",
        "its annotation was made from the prediction, without a person",
    ),
    "no_record": ("记录文件里没有这张图片", "no record of this picture"),
    "other_version": (
        "标注者看到的是另一个模型版本的答案，不是这份记录里的",
        "the form showed an answer of another model version than the record's",
    ),
    "twice": ("同一张图片的第二个答案", "a second answer for the same picture"),
    "unreadable": ("内容不符合标注配置", "holds what the label config does not allow"),
    "no_answer": ("没有这个模型版本的答案", "no answer under this model version"),
    "not_chosen": (
        "标注时没有显示答案，但不是随机抽出的盲检任务（如果确实是随机抽取的，请加上 --blind）",
        "labelled without an answer, but not chosen by chance for a blind check (if they were, say --blind)",
    ),
    "earlier": ("早于 --since 的日期", "earlier than --since"),
    "too_large": ("内容太大或 Label Studio 出错，无法读取", "too large to be read, or Label Studio fails on them"),
}


class Sentences:
    """In one language."""

    def __init__(self, language: Language) -> None:
        self._zh = language == "zh"

    def __call__(self, zh: str, en: str) -> str:
        return zh if self._zh else en

    def share(self, share: Share) -> str:
        """ "89 % of 212 (84 % to 93 %)"."""
        if share.share is None:
            return "-"
        low, high = rounded(share.low), rounded(share.high)
        return self(
            f"{share.num:,} 张中 {rounded(share.share)}（{low}–{high}）",
            f"{rounded(share.share)} of {share.num:,} ({low} to {high})",
        )

    def of(self, quality: Quality) -> Iterator[str]:
        """What matters, a sentence each, the most telling first."""
        if quality.blind.num:
            right = quality.blind
            yield self(
                f"盲检 {right.num:,} 张：所有标签都正确的占 {rounded(right.share or 0)}，"
                f"真实比例有 {LEVEL:.0%} 的把握在 {rounded(right.low)} 到 {rounded(right.high)} 之间。",
                f"Blind check of {number(right.num):picture|pictures}: in {rounded(right.share or 0)} every label is "
                f"right; the true share lies between {rounded(right.low)} and {rounded(right.high)} "
                f"({LEVEL:.0%} sure).",
            )
        elif quality.num_blind:
            yield self(
                f"盲检过的 {quality.num_blind:,} 张里没有人填写过任何标签：标签对不对、哪些可以直接通过，还无从说起。",
                f"{number(quality.num_blind):picture was|pictures were} checked blind, and nobody filled a label: how "
                "many are right, and which may pass, is not known yet.",
            )
        elif not quality.num_filled:
            yield self(
                "还没有能说明答案好坏的标注。",
                "Nothing that people labelled says yet how good the answers are.",
            )
        else:
            yield self(
                "没有盲检的图片：所有标注者都先看到了预标注，所以无法给出保证。请让一部分图片在不显示预标注的情况下标注。",
                "No picture was checked blind: everybody saw the answer first, so nothing can be guaranteed. "
                "Have some pictures labelled without showing the answers.",
            )
        if quality.filled.num:
            filled = quality.filled
            yield self(
                f"预标注过的 {filled.num:,} 张：{rounded(filled.share or 0)} 没有改动任何标签"
                "（人看到答案后更容易接受，这不是准确率）。",
                f"Of {number(filled.num):pre-filled picture|pre-filled pictures} {rounded(filled.share or 0)} were "
                "submitted with no label changed (people let more pass once they see an answer: this is no accuracy).",
            )
        yield from self._may_pass(quality)
        if quality.time_saved is not None:
            yield self.time(quality.time_saved)
        if quality.agreement.num:
            yield self(
                f"由多人标注的 {quality.agreement.num:,} 张中，"
                f"{rounded(quality.agreement.share or 0)} 所有人标签一致。",
                f"Of {number(quality.agreement.num):picture|pictures} that several people labelled, they agree on "
                f"every label of {rounded(quality.agreement.share or 0)}.",
            )

    def in_short(self, quality: Quality, project_id: str, audit_share: float) -> Iterator[str]:
        """For the status page: how good, how much time it saves, what may pass; what is missing for it, and where there
        is more. `audit_share`: the share of the project's tasks that the blind audit chooses."""
        yield next(self.of(quality))
        if quality.time_saved is not None:
            yield self.time(quality.time_saved)
        yield from self._may_pass(quality)
        if audit_share and not quality.num_blind:
            yield self(
                f"盲检已开启（开启时还没有预标注的任务中，{rounded(audit_share)} 标注前不显示答案）："
                "标注完其中一部分后，这里会给出准确率。",
                f"A blind check is on (of the tasks that had no answer when it began, {rounded(audit_share)} open "
                "empty): once people have labelled some of them, the accuracy stands here.",
            )
        elif not quality.num_blind:
            yield self(
                f"开启盲检：prelabel connect --project {project_id} --audit 5"
                "（还没有预标注过的任务中，5% 标注前不显示答案）。",
                f"To begin a blind check: prelabel connect --project {project_id} --audit 5 (of the tasks that had no "
                "answer yet, 5% open empty).",
            )
        yield from next_step(quality.fields, project_id, self)
        for reason in ("not_chosen", "no_answer", "other_version"):
            if num := quality.unused.get(reason):
                yield self.unused(reason, num)
        target, sure = exactly(quality.threshold.target), exactly(1 - quality.threshold.delta)
        yield self(
            f"状态页总是按“错误不超过 {target}（{sure} 的把握）”计算。要换目标（--target），或看各字段和最常见的错误："
            f"prelabel quality --project {project_id}",
            f"The status page always asks for at most {target} wrong ({sure} sure). For another --target, for the "
            f"fields and for what is confused most: prelabel quality --project {project_id}",
        )

    def _may_pass(self, quality: Quality) -> Iterator[str]:
        """What may, of which labels nothing is said, and what people may still take for promised."""
        if quality.blind.num:
            yield self.passing(quality)
        if quality.is_unfounded:
            target, sure = exactly(quality.threshold.target), exactly(1 - quality.threshold.delta)
            yield self(
                f"模型设置里有 review_thresholds，现在不能保证错误不超过 {target}（{sure} 的把握）："
                "如果 Data Manager 里有“可直接通过”标签页，其中的任务也要由人看，直到 --apply 再次找到门槛"
                "（如果当时用了别的 --target，请用同样的再问一次）。",
                f"The model settings have review_thresholds, and nothing guarantees now that by them at most {target} "
                f"is wrong ({sure} sure): if the Data Manager has the tab “May pass unseen”, look at its tasks, too, "
                "until --apply finds a threshold again (if it was asked with another --target, ask with that).",
            )
        if quality.unchecked:
            yield self.unchecked(quality)

    def as_written(self, name: str) -> str:
        """Of a table in which people were to correct the answers."""
        return self(
            f"注意：{name} 里没有一处与答案不同。改过了吗？如果没有人改过，下面的数字说明不了什么。",
            f"Note: nothing in {name} differs from what was answered: was it corrected? If nobody did, the figures say "
            "nothing.",
        )

    def unfilled(self, names: tuple[str, ...]) -> str:
        listed = ", ".join(names)
        return self(
            f"没有任何标注填写过 {listed}：这些字段不计入上面的数字。",
            f"Nobody filled {listed} in any picture: nothing is said of it, and it counts for none of the above.",
        )

    def unchecked(self, quality: Quality) -> str:
        titles = {field.name: field.title for field in quality.fields}
        listed = ", ".join(titles.get(name, name) for name in quality.unchecked)
        return self(
            f"盲检的图片里没有人填写过 {listed}：盲检的正确率和可直接通过的保证都不包括这些字段。",
            f"Nobody filled {listed} in any picture that was checked blind: neither what is right in the blind check "
            "nor what may pass counts it.",
        )

    def passing(self, quality: Quality) -> str:
        """What may pass unseen; or that what was found holds no more."""
        found = quality.drift
        if found is None:
            return self.threshold(quality.threshold)
        titles = {field.name: field.title for field in quality.fields}
        names = [titles.get(name, name) if name else self("分数", "the score") for name in found.fields]
        since = time.strftime("%Y-%m-%d", time.localtime(found.since)) if found.since else found.name
        said = self(
            f"保证自 {since} 起失效：此后的图片与盲检过的不再相似（{'、'.join(names)}的分布变了）。"
            "在重新盲检之前，没有图片可以直接通过。",
            f"The guarantee is void since {since}: later pictures are not like those checked blind ({', '.join(names)} "
            "differ). Nothing may pass unseen before some are checked blind again.",
        )
        if not (quality.project and found.since):
            return said
        again = f"prelabel quality --project {quality.project} --since {since}"
        return said + self(
            f"之后请只看新的标注（连同以前的，可能仍是失效）：{again}",
            f" Then ask by those labels alone, for with the earlier ones it may stay void: {again}",
        )

    def threshold(self, found: Threshold) -> str:
        target, sure = exactly(found.target), exactly(1 - found.delta)
        if found.threshold is not None:
            passed = rounded(found.num / found.num_all)
            return self(
                f"分数不低于 {found.threshold:.2f} 的可以直接通过，占全部的 {passed}："
                f"其中错误不超过 {target}（{sure} 的把握）。",
                f"What scores {found.threshold:.2f} or more may pass unseen: at most {target} of it is wrong ({sure} "
                f"sure); that is {passed} of all. ",
            ) + self._holds(found)
        if found.next_look is not None and not found.is_too_wrong:
            return self(
                f"还不能保证任何图片可以直接通过（目标：错误不超过 {target}，{sure} 的把握）。",
                f"Nothing may pass unseen yet (at most {target} wrong, {sure} sure). ",
            ) + self.next_look(found)
        if found.num_missing is not None:
            return self(
                f"还不能保证任何图片可以直接通过（目标：错误不超过 {target}，{sure} 的把握）："
                f"至少还需要盲检约 {roughly(found.num_missing)} 张。",
                f"Nothing may pass unseen yet (at most {target} wrong, {sure} sure): at least about "
                f"{roughly(found.num_missing):more picture is|more pictures are} to be checked blind.",
            )
        num, wrong = number(found.num), number(found.num_wrong)
        if not found.is_too_wrong:
            return self(
                f"还不能保证任何图片可以直接通过（目标：错误不超过 {target}，{sure} 的把握）："
                f"分数最高的 {num} 张里错了 {wrong} 张，还说不出要再盲检多少张。",
                f"Nothing may pass unseen yet (at most {target} wrong, {sure} sure): of the {num} with the highest "
                f"scores {wrong:is|are} wrong, and how many more are to be checked blind cannot be said yet.",
            )
        share = rounded(found.num_wrong / found.num)
        return self(
            f"没有图片可以直接通过：即使是分数最高的 {num} 张，也错了 {wrong} 张（{share}），超过 {target}。"
            "请修改标注配置、提示词，或换模型。",
            f"Nothing may pass unseen: even of the {num} with the highest scores {share} ({wrong}) are wrong, more "
            f"than {target}. Change the label config, the instructions or the model.",
        )

    def _holds(self, found: Threshold) -> str:
        if found.next_look is None:
            return self(
                "盲检多少张须事先定好，到时只看一次，这个把握才成立。",
                "It is the promise of one look, after as many blind checks as were decided on before.",
            )
        return self(
            f"依据最先盲检的 {found.num_all:,} 张，看多少次都成立。",
            f"It was found on the first {number(found.num_all):blind label|blind labels}, and holds however often one "
            "looks. ",
        ) + self.next_look(found)

    def next_look(self, found: Threshold) -> str:
        """When a project's threshold may change, and when it is likely to if the next look is too soon for that."""
        next_look, now = number(found.next_look or 0), number(found.num_labels)
        said = self(
            f"下一次计算在盲检满 {next_look} 张时，现在 {now} 张。",
            f"Next look at {next_look:blind label|blind labels}; {now} now.",
        )
        likely = found.num_labels + (found.num_missing or 0)
        if found.num_missing is None or likely == found.next_look:
            return said
        return said + self(
            f"如果错误比例不变，满 {likely:,} 张时才会有。",
            f" If as many stay wrong, some pass at {likely:,}.",
        )

    def threshold_of_field(self, found: Threshold) -> str:
        """For this field alone; what passes as a whole is the task's."""
        target, sure = exactly(found.target), exactly(1 - found.delta)
        if found.threshold is None:
            return self(
                f"单看这个字段，还不能保证错误不超过 {target}。",
                f"For this field alone, {target} wrong at most cannot be guaranteed yet.",
            )
        passed = rounded(found.num / found.num_all)
        return self(
            f"单看这个字段，置信度不低于 {found.threshold:.2f} 的（占 {passed}）错误不超过 {target}（{sure} 的把握）。",
            f"For this field alone, of what has a confidence of {found.threshold:.2f} or more ({passed}) at most "
            f"{target} is wrong ({sure} sure).",
        )

    def time(self, saved: TimeSaved) -> str:
        """Of a handful only the times, no factor."""
        blind, filled = number(saved.num_blind), number(saved.num_filled)
        times = self(
            f"每张用时（中位数）：不看预标注 {seconds(saved.blind_s)} 秒（{blind} 张），"
            f"看预标注 {seconds(saved.filled_s)} 秒（{filled} 张）",
            f"Time a picture (median): {seconds(saved.blind_s)} s without the answer in the form "
            f"({blind:picture|pictures}) and {seconds(saved.filled_s)} s with it ({filled})",
        )
        if saved.low is None or saved.high is None:
            return times + self("；张数太少，还说不出快慢。", "; too few to say how much faster that is.")
        return times + self(
            f"；看预标注时的速度是不看时的 {saved.factor:.1f} 倍（{saved.low:.1f}–{saved.high:.1f} 倍）。",
            f": {saved.factor:.1f} times as fast with it ({saved.low:.1f} to {saved.high:.1f}).",
        )

    def details(self, field: FieldQuality) -> str:
        """What its kind of field has besides a share."""
        parts = []
        if field.kept is not None:
            parts.append(self(f"文字保留 {rounded(field.kept)}", f"{rounded(field.kept)} of the text kept"))
        if len(field.right_by_level) > 1:
            levels = " > ".join(rounded(level.share or 0) for level in field.right_by_level)
            parts.append(self(f"逐级正确 {levels}", f"right by level {levels}"))
        if field.precision is not None and field.recall is not None and not field.is_text:
            parts.append(
                self(
                    f"查准 {rounded(field.precision)}，查全 {rounded(field.recall)}",
                    f"precision {rounded(field.precision)}, recall {rounded(field.recall)}",
                )
            )
        if field.mean_error is not None:
            parts.append(self(f"平均偏差 {plain(field.mean_error)}", f"off by {plain(field.mean_error)} on average"))
        if field.calibration_error is not None:
            parts.append(
                self(
                    f"置信度与正确率平均相差 {rounded(field.calibration_error)}",
                    f"confidence and share right differ by {rounded(field.calibration_error)}",
                )
            )
        if not parts:
            return ""
        kind = self("盲检：", "checked blind: ") if field.is_of_blind else self("预标注后：", "pre-filled: ")
        return kind + self("；", "; ").join(parts)

    def model_version(self, name: str) -> str:
        return self(f"模型版本 {name}", f"Model version {name}")

    def version(self, name: str, quality: Quality) -> str:
        """Another model version, in one line."""
        return self.model_version(name) + self(
            f"：盲检正确 {self.share(quality.blind)}；预标注后未改动 {self.share(quality.filled)}",
            f": right, checked blind {self.share(quality.blind)}; pre-filled, unchanged {self.share(quality.filled)}",
        )

    def task_address(self, task_url: str) -> str:
        return self(f"任务的地址：{task_url} 加上编号", f"The address of a task: {task_url} and its number")

    def unused(self, reason: str, num: int) -> str:
        zh, en = _UNUSED[reason]
        return self(f"{num:,} 条没有用上：{zh}", f"{num:,} not used: {en}")
