"""What pages and terminals say, in both languages."""

from __future__ import annotations

import pytest

from backend.pages.words import Words


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
