"""What pages and terminals say, in both languages."""

from __future__ import annotations

import re

import pytest

from backend.bulk.report.words import ReportWords
from backend.pages.check_words import CHECKS
from backend.pages.engine_words import ENGINE_WORDS, Why
from backend.pages.numbers import number, roughly, seconds
from backend.pages.words import Words
from backend.quality.page_words import QualityWords
from model_loader.errors import ModelError


def test_a_stage_from_which_nothing_comes_is_told_with_how_long() -> None:
    assert Words("zh").stage("download", stalled_s=40.0) == "下载模型（已有 40 秒没有收到数据）"
    assert Words("en").stage("download", stalled_s=40.0) == "Downloading the model (nothing has come for 40 s)"
    assert Words("zh").stage("folders", stalled_s=40.0).startswith("检查文件夹（已等待 40 秒：PRELABEL_QUANTISED_DIR")
    assert "(no disk has answered for 40 s: look at the one of" in Words("en").stage("folders", stalled_s=40.0)
    for stage in ("quantise", "load", "load_copy"):
        assert "（已有 40 秒没有读完下一个张量：" in Words("zh").stage(stage, stalled_s=40.0)


@pytest.mark.parametrize(
    ("bytes_per_s", "left_s", "zh", "en"),
    [
        (0.0, None, "下载模型", "Downloading the model"),
        (
            110e6,
            400.0,
            "下载模型（110.0 MB/秒，还需 6 分钟 40 秒）",
            "Downloading the model (110.0 MB/s, 6 min 40 s left)",
        ),
        (0.0, 40.0, "下载模型（还需 40 秒）", "Downloading the model (40 s left)"),
    ],
)
def test_a_stage_is_told_with_its_pace(bytes_per_s: float, left_s: float | None, zh: str, en: str) -> None:
    assert Words("zh").stage("download", bytes_per_s, left_s) == zh
    assert Words("en").stage("download", bytes_per_s, left_s) == en


@pytest.mark.parametrize(
    ("num", "said"), [(1, "1"), (45, "45"), (100, "100"), (101, "110"), (6_032, "6,100"), (99_900, "100,000")]
)
def test_an_estimate_has_two_digits_that_mean_something(num: int, said: str) -> None:
    assert roughly(num) == said


def test_seconds_are_said_so_that_their_ratio_is_the_factor_beside_them() -> None:
    assert [seconds(value) for value in (18.62, 5.31, 20.0, 0.04, 1_234.5)] == ["18.6", "5.3", "20", "0", "1,234"]


def test_earlier_predictions_ask_for_nothing_where_every_task_has_a_newer_one() -> None:
    """Nobody looks at each task for that, so what is to be done is said under its condition."""
    assert "Tasks that are not pre-filled under the present one yet: select them" in Words("en")("stale", num="48")
    assert "还没有按当前配置重新预标注的任务，请" in Words("zh")("stale", num="48")


@pytest.mark.parametrize(
    ("num", "zh", "en"),
    [
        (0, "0 个任务已取消", "0 tasks were cancelled"),
        (1, "1 个任务已取消", "1 task was cancelled"),
        (2_000, "2,000 个任务已取消", "2,000 tasks were cancelled"),
    ],
)
def test_what_is_counted_goes_with_its_number(num: int, zh: str, en: str) -> None:
    assert Words("zh")("did.cancel", project="12", num=number(num)) == f"12：{zh}。"
    assert Words("en")("did.cancel", project="12", num=number(num)) == f"12: {en}."


def test_no_text_counts_one_as_several() -> None:
    """`{num:task|tasks}`, not `{num} tasks`."""
    texts = {**ReportWords.texts, **QualityWords.texts, **CHECKS}
    several = re.compile(r"\{(num|all|days|slots|times|wrong)\} ([a-z-]+ )?(?!this)([a-z-]*[a-rt-z]s|are|were)\b")
    assert not [english for _, english in texts.values() if several.search(english)]


def test_each_kind_of_refusal_of_a_model_has_words() -> None:
    kinds = [ModelError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    assert {kind.__name__ for kind in kinds} <= ENGINE_WORDS.keys()


@pytest.mark.parametrize("code", ENGINE_WORDS)
def test_why_an_engine_is_not_ready_is_said_in_both_languages(code: str) -> None:
    values = {"said": "CUDA error 700", "limit": "30", "stage": "graphs", "percent": "97%", "exitcode": "70"}
    values |= {"times": "6", "kind": "OSError", "models": "a and b", "place": "gpu-box"}
    values |= {"first": "garments 1a2b", "now": "garments 3c4d", "hours": "12"}
    chinese, english = (Words(language).why((Why(code, values),), "") for language in ("zh", "en"))
    assert chinese
    assert english
    assert "{" not in chinese + english
    assert not re.search(r"CUDA error|Capturing", chinese)


def test_sentences_of_why_follow_each_other_and_others_words_are_left_to_the_original() -> None:
    why = (Why("engine_without_graphs"), Why("engine_silent_at", {"limit": "1800", "stage": "graphs"}))
    assert Words("zh").why(why, "...") == (
        "正在重新启动，不用 CUDA graph：模型进程在“录制并核对 CUDA graph”时 1800 秒没有响应，已被结束"
    )
    refused = (Why("DownloadFailed", {"said": "the hub did not answer"}),)
    assert "模型下载失败（见英文原文）" in Words("zh").why(refused, "DownloadFailed: the hub did not answer")
    assert (
        Words("en").why(refused, "DownloadFailed: the hub did not answer") == "DownloadFailed: the hub did not answer"
    )
    assert Words("zh").why((), "it died") == "见英文原文"


@pytest.mark.parametrize(
    "code", ["slow_slots", "slow_workspace", "slow_kv_cache", "slow_prefills", "slow_shortage", "slow_power"]
)
def test_numbers_are_no_english_that_stands_elsewhere(code: str) -> None:
    for language in ("zh", "en"):
        assert "1,024 / 4,096" in Words(language).check(code, {"said": "1,024 / 4,096"})
