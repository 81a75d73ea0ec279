"""Every reason that the code can raise is explained, in both languages, and no other is."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import pytest

import backend
from backend.bulk.outcomes import FailedItem
from backend.delivery.loop import DeliveryStatus
from backend.delivery.plan import Drop
from backend.engine.messages import FailureKind as EngineFailureKind
from backend.errors import GenerationFailed, ImageError, ImageErrorKind
from backend.label_studio.predictions import FailureKind as CallFailureKind
from backend.predict.predict_one import REASONS, Failure
from backend.queue.results import TaskResult
from backend.queue.waiting import Outcome
from backend.reasons import SECTIONS, Explained, Reason, known, sentence
from backend.settings import Settings, env_name
from backend.store import Store

ROWS = [row for _, _, rows in SECTIONS for row in rows]
ROOT = Path(backend.__file__).parents[1]
HAN = re.compile("[\u4e00-\u9fff]")
SETTING = re.compile(r"\b(?:PRELABEL|LABEL_STUDIO|BASIC_AUTH)(?:_[A-Z]+)+\b")


def constants() -> Iterator[str]:
    """The texts of backend's code, without its table of reasons, types and docstrings; those of an ImageError as its
    reason."""
    for path in Path(backend.__file__).parent.rglob("*.py"):
        if path.name == "reasons.py":
            continue
        yield from _Constants().of(ast.parse(path.read_text("utf-8")))


class _Constants(ast.NodeVisitor):
    def of(self, tree: ast.AST) -> set[str]:
        self.found: set[str] = set()
        self.visit(tree)
        return self.found

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if not (isinstance(node.value, ast.Name) and node.value.id == "Literal"):
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        names = isinstance(node.func, ast.Name) and node.func.id == "ImageError"
        if names and node.args and isinstance(node.args[0], ast.Constant):
            self.found.add(f"image_{node.args[0].value}")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self.found |= {node.value, *re.findall(r"reason = '(\w+)'", node.value)}


def test_there_is_one_row_for_each_reason() -> None:
    assert sorted(row.reason for row in ROWS) == sorted(get_args(Reason))


def test_every_reason_is_raised_by_some_code() -> None:
    """So a row nobody needs any more is found."""
    assert set(get_args(Reason)) - set(constants()) == set()


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (Failure, "reason"), (TaskResult, "reason"), (Outcome, "reason"), (Drop, "reason"),
        (DeliveryStatus, "last_reason"), (GenerationFailed.__init__, "reason"), (FailedItem.of, "reason"),
        (Store.fail, "reason"), (Store.drop, "reason"), (Store.push_failed, "reason"),
        (ImageError.reason.fget, "return"),
    ],
    ids=lambda value: getattr(value, "__qualname__", value),
)  # fmt: skip
def test_whatever_holds_a_reason_is_typed_so_that_mypy_refuses_another(place: Any, name: str) -> None:
    assert get_type_hints(place)[name] in (Reason, Reason | Literal[""])


def test_what_crosses_the_rooms_under_names_of_its_own_is_explained() -> None:
    crossing = {f"image_{kind}" for kind in get_args(ImageErrorKind)}
    crossing |= {kind for kind in get_args(EngineFailureKind) if kind != "internal"}
    crossing |= {*get_args(CallFailureKind), *REASONS.values()}
    assert [reason for reason in sorted(crossing) if known(reason) is None] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.reason)
def test_each_says_in_both_languages_what_it_means_and_what_to_do(row: Explained) -> None:
    for chinese, english in ((row.means_zh, row.means_en), (row.do_zh, row.do_en)):
        assert HAN.search(chinese)
        assert not HAN.search(english)
    assert not row.means_zh.endswith("。")
    assert not row.means_en.endswith(".")
    assert row.do_zh.endswith("。")
    assert row.do_en.endswith(".")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.reason)
def test_each_setting_that_is_named_exists_and_is_named_in_both_languages(row: Explained) -> None:
    assert set(row.settings) <= {env_name(name) for name in Settings.model_fields}
    assert set(SETTING.findall(row.do_zh)) == set(SETTING.findall(row.do_en)) == set(row.settings)


def test_a_reason_of_another_version_is_shown_as_it_is() -> None:
    assert known("of_the_future") is None
    assert sentence("of_the_future") == "of_the_future"


def test_the_documents_are_those_the_table_gives() -> None:
    made = subprocess.run(
        [sys.executable, "scripts/generate_docs.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
