"""docs/security.md promises nothing that no test holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parents[2]
PAGE = (HERE / "docs" / "security.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("test", sorted(set(re.findall(r"tests/[\w/]+\.py", PAGE))))
def test_every_test_that_it_names_is_there(test: str) -> None:
    assert re.search(r"^ *def test_", (HERE / test).read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("test", sorted((HERE / "tests" / "attacks").glob("test_*.py")), ids=lambda path: path.name)
def test_every_attack_stands_behind_a_promise(test: Path) -> None:
    assert test.name in PAGE or test == Path(__file__)
