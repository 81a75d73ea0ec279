"""What pages and terminals say, in both languages."""

from __future__ import annotations

import pytest

from backend.pages.words import Words, roughly, seconds


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
