"""What env files leave around a setting is dropped, and said."""

from __future__ import annotations

import logging
import sys

import pytest

from backend import cli
from backend.environment import tidy
from backend.settings import load_settings


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ('"abc"', "abc"),
        ("'abc'", "abc"),
        ("“abc”", "abc"),
        ('"abc"\r', "abc"),
        ("abc\r", "abc"),
        ("abc  ", "abc"),
        ("\tabc", "abc"),
        ('" abc "', "abc"),
        ('""', ""),
        ('"', '"'),
        ('"abc', '"abc'),
        ("\"abc'", "\"abc'"),
        ('a"b"c', 'a"b"c'),
        ("abc", "abc"),
        ("a b", "a b"),
        ("", ""),
    ],
)
def test_a_value_loses_what_a_shell_would_have_taken_away(raw: str, value: str) -> None:
    environment = {"X_KEY": raw, "OTHER": raw}
    said = tidy(environment, lambda name: name == "X_KEY")
    assert environment == {"X_KEY": value, "OTHER": raw}
    assert [line.startswith("X_KEY: ") for line in said] == [True] * (raw != value)
    assert "abc" not in "".join(said)


@pytest.mark.parametrize("name", ["export X_KEY", "X_KEY ", " X_KEY", "\ufeffX_KEY", "export  X_KEY", "export X_KEY\r"])
def test_a_name_loses_what_is_none_of_it(name: str) -> None:
    environment = {name: '"abc"'}
    (said,) = tidy(environment, lambda name: name == "X_KEY")
    assert environment == {"X_KEY": "abc"}
    assert "it stood there as" in said
    environment = {name: "other", "X_KEY": "abc"}
    (said,) = tidy(environment, lambda name: name == "X_KEY")
    assert environment == {"X_KEY": "abc"}
    assert "which is ignored" in said


def test_settings_are_read_without_quotation_marks_and_a_warning_names_each(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", '"a-secret-key"')
    monkeypatch.setenv("LABEL_STUDIO_URL", "'http://labels.example' ")
    monkeypatch.setenv("PRELABEL_PORT", '"9191"\r')
    monkeypatch.setenv("PRELABEL_VRAM_GIB", '""')
    monkeypatch.setenv("PRELABEL_LANGUAGE", "")
    monkeypatch.setenv("export PRELABEL_LANGUAGE", "en")
    with caplog.at_level(logging.WARNING):
        settings = load_settings()
    assert settings.label_studio_api_key.get_secret_value() == "a-secret-key"
    assert (settings.label_studio_url, settings.port) == ("http://labels.example", 9191)
    assert (settings.vram_gib, settings.language) == (None, "en")
    named = {record.getMessage().split(":")[0] for record in caplog.records}
    assert named == {
        "LABEL_STUDIO_API_KEY", "LABEL_STUDIO_URL", "PRELABEL_PORT", "PRELABEL_VRAM_GIB", "PRELABEL_LANGUAGE",
    }  # fmt: skip
    assert "a-secret-key" not in caplog.text


def test_a_command_says_it_once_before_it_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PRELABEL_PORT", '"x"')
    monkeypatch.setattr(sys, "argv", ["prelabel", "status"])
    with pytest.raises(SystemExit):
        cli.main()
    said = capsys.readouterr().err
    assert said.count("PRELABEL_PORT: quotation marks around its value were dropped") == 1
    assert "PRELABEL_PORT: Input should be a valid integer" in said
