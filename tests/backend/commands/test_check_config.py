"""`prelabel doctor --label-config` says what becomes of a label config, and writes the better one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from backend import cli
from backend.errors import SettingsError
from label_config.parse import parse_label_config
from tests.label_config.configs import choice, choices, view

LOST = view(
    f'<Taxonomy name="kind" toName="image" maxUsages="2">{choice("鞋")}{choice("包")}</Taxonomy>',
    '<Rating name="heel" toName="image" visibleWhen="choice-selected" whenTagName="kind" whenChoiceValue="鞋"/>',
    '<Brush name="b" toName="image"/>',
)


def test_fields_left_out_and_traps_are_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.xml"
    file.write_text(LOST, encoding="utf-8")
    said = CliRunner().invoke(cli.app, ["doctor", "--label-config", str(file)])
    assert said.exit_code == 0
    assert "pre-filled: kind, heel" in said.output
    assert 'left out:   <Brush name="b"> is left out' in said.output
    assert "is gone after Submit" in said.output


@pytest.mark.parametrize("option", ["--start", "--geometry-only", "--json"])
def test_what_says_nothing_of_a_config_is_refused_beside_one(option: str) -> None:
    said = CliRunner().invoke(cli.app, ["doctor", "--label-config", "ecommerce.zh", option])
    assert isinstance(said.exception, SettingsError)
    assert "--label-config checks a label config alone" in str(said.exception)


def test_the_better_config_goes_to_standard_output(tmp_path: Path) -> None:
    file = tmp_path / "mine.xml"
    file.write_text(LOST, encoding="utf-8")
    said = CliRunner().invoke(cli.app, ["doctor", "--label-config", str(file), "--fix"])
    assert said.exit_code == 0
    assert parse_label_config(said.stdout).traps == ()


def test_what_a_rewritten_config_still_loses_is_named(tmp_path: Path) -> None:
    unclear = choices("a", name="x", attributes='visibleWhen="choice-selected" whenChoiceValue="no such"')
    file = tmp_path / "mine.xml"
    file.write_text(LOST.replace("</View>", f"{unclear}</View>"), encoding="utf-8")
    said = CliRunner().invoke(cli.app, ["doctor", "--label-config", str(file), "--fix"])
    assert "is gone after Submit" not in said.stderr.partition("rewritten")[2]
    assert 'left as it is: <Choices name="x"> is shown once anything is chosen' in said.stderr
    assert "no other control has all of these labels" in said.stderr
    assert len(parse_label_config(said.stdout).traps) == 1


@pytest.mark.slow
def test_a_list_that_cannot_be_run_fails_the_check(tmp_path: Path) -> None:
    chance = random.Random(0)
    labels = ["".join(chance.choices([chr(code) for code in range(0x4E00, 0x9000)], k=5)) for _ in range(6_000)]
    file = tmp_path / "mine.xml"
    file.write_text(view(choices(*labels, name="big", attributes='choice="multiple"')), encoding="utf-8")
    said = CliRunner().invoke(cli.app, ["doctor", "--label-config", str(file)])
    assert said.exit_code == 1
    assert "such labels fit" in said.output
