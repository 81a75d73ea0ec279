"""The list of known bad versions, and what is installed beside label-studio-ml 1.0.9 in spite of its pins."""

from __future__ import annotations

from importlib.metadata import requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from scripts.audit import PINS, installed, known_bad, pinned, problems


def test_nothing_installed_is_in_the_list_of_known_bad_versions() -> None:
    assert problems(installed(), known_bad()) == []


def test_nothing_pinned_is_in_the_list_of_known_bad_versions() -> None:
    assert problems(pinned(PINS), known_bad()) == []


@pytest.mark.parametrize(
    ("package", "at_least"),
    [("flask", "3"), ("werkzeug", "3"), ("jinja2", "3.1"), ("itsdangerous", "2.2")],
)
def test_label_studio_ml_runs_beside_releases_that_are_safe(package: str, at_least: str) -> None:
    assert version("label-studio-ml") == "1.0.9"
    assert Version(version(package)) >= Version(at_least)


def test_what_label_studio_ml_itself_pins_would_be_refused() -> None:
    wanted = [Requirement(text) for text in requires("label-studio-ml") or []]
    pins = [(r.name.lower(), s.version) for r in wanted for s in r.specifier if s.operator == "=="]
    refused = {line.split()[0] for line in problems(pins, known_bad())}
    assert refused >= {"flask", "werkzeug", "jinja2", "itsdangerous", "attr"}


def test_a_bad_pin_is_named_with_the_reason(tmp_path: Path) -> None:
    pins = tmp_path / "constraints.txt"
    pins.write_text("# a comment\ntorch==2.5.1  # why\n\nFlask==3.1.0\n", encoding="utf-8")
    found = problems(pinned(pins), known_bad())
    assert [line.partition(":")[0] for line in found] == ["flask 3.1.0", "torch 2.5.1"]
    assert "CVE-2025-32434" in found[1]
