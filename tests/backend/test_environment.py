"""What env files leave around a setting is dropped, and said."""

from __future__ import annotations

import logging
import os
import sys

import httpx
import pytest
from huggingface_hub.constants import ENV_VARS_TRUE_VALUES

from backend import cli
from backend.environment import ON, SWITCHES, is_of_libraries, tidy, unusable
from backend.errors import SettingsError
from backend.settings import load_settings, tidy_environment


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


@pytest.mark.parametrize(
    ("name", "raw", "value"),
    [
        ("HF_HUB_OFFLINE", '"1"', "1"),  # else it is downloaded all the same
        ("HF_HOME", '"/models"', "/models"),  # else into a folder below the current one
        ("HF_HOME", "/models\r", "/models"),
        ("export HF_ENDPOINT", "https://mirror.example", "https://mirror.example"),
        ("HF_TOKEN", "'a-token' ", "a-token"),
        ("MODELSCOPE_CACHE", '"/models"', "/models"),
        ("https_proxy", '"http://proxy.example:3128"', "http://proxy.example:3128"),
        ("CUDA_VISIBLE_DEVICES", '"0"', "0"),
        ("CUDA_DEVICE_ORDER", '"PCI_BUS_ID"', "PCI_BUS_ID"),  # else CUDA numbers the cards in its own order
        ("CC", "'gcc'", "gcc"),
        ("CC", "", None),  # Triton would find no compiler
        ("OMP_NUM_THREADS", '"4"', "4"),
        ("BNB_CUDA_VERSION", "", None),
        ("HF_HOME", "", None),  # huggingface_hub would take the current folder
        ("HF_HUB_CACHE", '""', None),
        ("HF_ENDPOINT", "\r", None),
        ("CUDA_VISIBLE_DEVICES", "", ""),  # no card
    ],
)
def test_what_libraries_read_of_the_same_file_is_tidied_too(
    monkeypatch: pytest.MonkeyPatch, name: str, raw: str, value: str | None
) -> None:
    known = name.removeprefix("export ")
    monkeypatch.setenv(known, "")
    monkeypatch.delenv(known)
    monkeypatch.setenv(name, raw)
    said = tidy_environment()
    assert os.environ.get(known) == value
    assert [line.partition(":")[0] for line in said] == [known] * (raw != (value or "") or name != known)


@pytest.mark.parametrize(
    ("value", "is_clear"),
    [
        *[(clear, True) for clear in ("", "1", "on", "YES", "True", "0", "off", "No", "FALSE")],
        *[(odd, False) for odd in ("y", "n", "enabled", "disabled", "2", "-1", "t", "1.0", "true,", "offline", "是")],
    ],
)
def test_a_switch_of_a_library_is_on_or_off_or_named(value: str, is_clear: bool) -> None:
    said = unusable(dict.fromkeys(SWITCHES, value) | {"HF_HOME": "y", "HF_HUB_OTHER": "y"})
    assert [line.partition(":")[0] for line in said] == ([] if is_clear else list(SWITCHES))


@pytest.mark.parametrize(
    ("name", "value", "is_right"),
    [
        ("HF_HUB_DOWNLOAD_TIMEOUT", "10s", False),
        ("HF_HUB_ETAG_TIMEOUT", "1.5", False),
        ("HF_HUB_DOWNLOAD_TIMEOUT", "30", True),
        ("HF_TOKEN", "你的令牌", False),
        ("HF_TOKEN", "hf_abc123", True),
        ("SSL_CERT_FILE", "/no/such/file.pem", False),
        ("SSL_CERT_FILE", __file__, True),
        ("CUDA_DEVICE_ORDER", "PCI", False),
        ("CUDA_DEVICE_ORDER", "pci_bus_id", False),
        ("CUDA_DEVICE_ORDER", "FASTEST_FIRST", True),
        *[
            (name, proxy, is_right)
            for name in ("ALL_PROXY", "all_proxy", "HTTPS_PROXY", "http_proxy")
            for proxy, is_right in (
                ("http://127.0.0.1:7890", True),
                ("127.0.0.1:7890", True),
                ("https://a:b@proxy.example", True),
                ("socks5://127.0.0.1:7890", False),
                ("SOCKS5H://a:b@proxy.example", False),
                ("socks://127.0.0.1:7890/", False),
                ("ftp://proxy.example", False),
                ("http://127.0.0.1:78x", False),
                ("http://[::1", False),
                ("http://[::1]:7890", True),
            )
        ],
        *[
            (name, exempt, is_right)
            for name in ("NO_PROXY", "no_proxy")
            for exempt, is_right in (
                ("localhost,127.0.0.0/8,::1", True),
                ("*.corp.example, .corp.example", True),
                ("corp.example:8080", True),
                ("http://a.example:1", True),
                ("localhost,[::1]", False),
                ("::1/128,localhost", False),
                ("[::1]:8080", False),
                ("fe80::/10", False),
            )
        ],
        *[
            ("HF_ENDPOINT", odd, False)
            for odd in ("mirror.example", "http://mirror:80x", "http://[::1", "https://", "//a")
        ],
        *[
            ("HF_ENDPOINT", right, True)
            for right in ("https://mirror.example/", "http://127.0.0.1:8080", "http://[::1]")
        ],
    ],
)
def test_a_value_that_a_library_cannot_use_is_named_before_it_is_asked(name: str, value: str, is_right: bool) -> None:
    said = unusable({name: value})
    assert [line.partition(":")[0] for line in said] == ([] if is_right else [name])
    assert "TOKEN" not in name or not any(value in line for line in said)


@pytest.mark.parametrize(
    ("others", "is_kept"),
    [
        ({"https_proxy": "http://127.0.0.1:7890", "http_proxy": "http://127.0.0.1:7890"}, False),
        ({"HTTPS_PROXY": "127.0.0.1:7890", "http_proxy": "http://127.0.0.1:7890"}, False),
        ({"https_proxy": "http://127.0.0.1:7890"}, True),  # then http goes through it, or nowhere
        ({"https_proxy": "socks5://127.0.0.1:7890", "http_proxy": "http://127.0.0.1:7890"}, True),
        ({}, True),
    ],
)
@pytest.mark.parametrize("name", ["ALL_PROXY", "all_proxy"])
def test_a_proxy_for_all_that_nobody_needs_is_no_reason_to_end(
    name: str, others: dict[str, str], is_kept: bool
) -> None:
    """As desktops and programs for proxies set one of SOCKS beside theirs of HTTP."""
    environment = {name: "socks5://127.0.0.1:7890", **others}
    assert tidy(environment, is_of_libraries) == []
    assert (name in environment) is is_kept
    assert any(line.startswith(f"{name}: ") for line in unusable(environment)) is is_kept
    environment = {name: "http://127.0.0.1:7891", **others}
    tidy(environment, is_of_libraries)
    assert name in environment


@pytest.mark.parametrize("name", ["https_proxy", "no_proxy"])
@pytest.mark.parametrize(
    "value", ["127.0.0.0/8,::1", "*.a.example", "localhost,[::1]", "::1/128", "a:80", "http://a:b"]
)
def test_httpx_makes_a_client_of_what_is_taken_for_usable(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other in ("https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv(name, value)
    try:
        httpx.Client().close()
    except httpx.InvalidURL:
        assert unusable({name: value})


def test_what_the_hub_takes_for_on_is_what_we_do() -> None:
    assert {value.upper() for value in ON} == ENV_VARS_TRUE_VALUES


def test_a_start_with_a_switch_that_is_neither_on_nor_off_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", '"enabled"')
    with pytest.raises(
        SettingsError, match=r"^HF_HUB_OFFLINE: its value is neither on nor off.* HF_HUB_OFFLINE=1, or 0"
    ):
        load_settings()


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
