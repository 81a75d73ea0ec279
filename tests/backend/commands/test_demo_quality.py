"""The demo's quality: true figures, and nobody takes the simulated person for a real one."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from backend.commands.demo.quality import show_quality
from backend.commands.demo.run import PICTURES
from backend.pages.words import Language
from tests.backend.commands.test_demo_report import SCHEMA, task

TRUTH = {"coat-00006.png": "外套", "shirt-00004.png": "衬衫", "gone.png": "衬衫"}


@pytest.mark.parametrize(("language", "said"), [("en", "Simulated: no person"), ("zh", "模拟数据：没有人")])
def test_it_says_that_the_person_is_simulated_on_the_terminal_and_on_the_page(
    tmp_path: Path, language: Language, said: str
) -> None:
    console, page = Console(width=200, file=io.StringIO()), tmp_path / "quality.html"
    tasks = [task("coat-00006.png"), task("shirt-00004.png"), task("another.png")]

    show_quality(console, SCHEMA, tasks, TRUTH, PICTURES, page, language)

    assert isinstance(console.file, io.StringIO)
    shown, written = console.file.getvalue(), page.read_text(encoding="utf-8")
    assert said in shown
    assert said in written
    assert "another.png" in shown, "which nobody labelled"
    assert "服饰 / 上装 / 衬衫 -> 服饰 / 上装 / 外套" in shown
    assert "data:image/jpeg;base64," in written, "the wrong one's picture"
