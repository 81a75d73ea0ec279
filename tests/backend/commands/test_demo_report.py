"""The table of the demo: what it shows, and when it counts a task as filled."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from backend.commands.demo.report import FilledTask, report
from label_config.answer import Answer, FieldAnswer, FieldValue
from label_config.parse import parse_label_config
from label_config.ready_made import ready_made

SCHEMA = parse_label_config(ready_made("garments.zh"))
SHIRT: dict[str, FieldValue] = {
    "category": (("服饰", "上装", "衬衫"),),
    "style": ("通勤",),
    "season": ("春秋",),
    "scene": ("上班通勤",),
    "caption": "一件白色衬衫，翻领，版型修身，背景干净，适合通勤时穿着。",
}


def task(file: str, score: float = 0.9, review: bool = False, **changes: FieldValue) -> FilledTask:
    fields = {name: FieldAnswer(value) for name, value in (SHIRT | changes).items()}
    return FilledTask(1, file, Answer(fields), score, review)


def printed(*tasks: FilledTask, truth: dict[str, str]) -> tuple[str, bool]:
    console = Console(width=200, file=io.StringIO())
    filled = report(console, SCHEMA, list(tasks), truth)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue(), filled


def test_every_field_is_shown_and_a_wrong_category_is_marked_with_the_right_one() -> None:
    text, filled = printed(task("a.png"), task("b.png", review=True), truth={"a.png": "衬衫", "b.png": "T恤"})
    assert filled
    assert "衬衫 ✗ T恤" in text
    assert "2 of 2 tasks pre-filled in every field" in text
    assert "Category right in 1 of 2" in text
    [row] = [line for line in text.splitlines() if "b.png" in line]
    assert [cell.strip() for cell in row.split("│")][3:9] == [
        "通勤",
        "春秋",
        "上班通勤",
        "一件白色衬衫，翻领，版型修身，背景干…",
        "0.90",
        "yes",
    ]


def test_the_least_certain_task_comes_first() -> None:
    text, _ = printed(task("sure.png", 0.99), task("doubt.png", 0.4), truth={})
    assert text.index("doubt.png") < text.index("sure.png")


@pytest.mark.parametrize(
    "unfilled",
    [FilledTask(1, "a.png"), task("a.png", season=None), task("a.png", caption=None)],
    ids=["no prediction", "one label missing", "no caption"],
)
def test_a_task_with_an_empty_field_is_not_filled(unfilled: FilledTask) -> None:
    text, filled = printed(unfilled, task("b.png"), truth={})
    assert not filled
    assert "1 of 2 tasks" in text


def test_no_tasks_at_all_is_no_success() -> None:
    assert not printed(truth={})[1]
