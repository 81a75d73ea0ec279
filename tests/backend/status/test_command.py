"""`prelabel status` against real HTTP servers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from backend import cli
from backend.commands import status as command
from backend.errors import PrelabelError
from backend.status.reading import StatusReader
from tests.backend.status.rig import NOW, READY, Site, finished, queued, status_site

PROJECT = "12.1700000000"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with status_site(tmp_path, label_studio_url="https://labels.example", price_per_minute=0.06) as site:
        works = queued(site.store, PROJECT, range(1, 1_001), NOW - 30)
        finished(site.store, works[:300])
        site.store.fail(works[300].id, "image_timeout", "slow", NOW - 30)
        yield site


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


def printed(*arguments: str) -> str:
    done = CliRunner().invoke(cli.app, ["status", *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_it_prints_the_model_the_queue_and_every_project(site: Site) -> None:
    text = printed("--url", site.url)
    for line in (
        "Qwen3-VL-30B-A3B-Instruct nf4: Ready", "699 waiting, 0 running", "10.0 img/s; time left: 1 min 9 s",
        "1 h since the model was loaded", "¥3.60 for the busy time; the rest will cost ¥0.07", "No API key",
        "The picture came too slowly", "https://labels.example/projects/12/data?task=301",
    ):  # fmt: skip
        assert line in text
    row = next(line for line in text.splitlines() if line.startswith("│ 12"))
    assert [cell.strip() for cell in row.split("│")[1:-2]] == ["12", "300", "1,000", "699", "300", "0", "0", "1"]


def test_json_is_what_the_server_says(site: Site) -> None:
    assert json.loads(printed("--url", site.url, "--json")) == site.json()


def test_an_empty_backend_says_the_next_step(tmp_path: Path) -> None:
    with status_site(tmp_path) as site:
        assert "choose Actions > Retrieve Predictions" in " ".join(printed("--url", site.url).split())


def test_texts_from_outside_neither_style_nor_steer_the_terminal(site: Site) -> None:
    site.titles = {PROJECT: "[red]x[/red]\x1b[2J"}
    site.engine.status = replace(READY, message="[/bold]\x1b]0;title\x07")
    text = printed("--url", site.url)
    assert "[red]x[/red]\\x1b[2J" in text
    assert "[/bold]" in text
    assert "\x1b]" not in text
    assert "\x07" not in text


def test_watching_goes_on_until_ctrl_c(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        site.engine.status = replace(READY, state="restarting")
        if len(pauses) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(command.time, "sleep", pause)
    assert "Restarting" in printed("--url", site.url, "--watch")
    assert pauses == [2.0] * 3


def failing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    monkeypatch.setattr("sys.argv", ["prelabel", "status", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    said = failing(monkeypatch, capsys, "--url", "http://127.0.0.1:1")
    assert said.startswith("prelabel: No backend answers at http://127.0.0.1:1")
    assert "Is `prelabel serve` running?" in said


@pytest.mark.parametrize("url", ["ftp://x", "nonsense", "http://", "http://a:b"])
def test_an_address_that_is_none(url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--url must be an address" in failing(monkeypatch, capsys, "--url", url)


def test_a_password_is_named_when_it_is_missing_and_used_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with status_site(tmp_path, password="pässwörd") as site:
        assert "Set BASIC_AUTH_USER and BASIC_AUTH_PASS" in failing(monkeypatch, capsys, "--url", site.url)
        monkeypatch.setenv("BASIC_AUTH_PASS", "pässwörd")
        assert "No tasks yet" in printed("--url", site.url)


def test_a_backend_without_such_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with status_site(tmp_path) as site:
        said = failing(monkeypatch, capsys, "--url", f"{site.url}/elsewhere")
    assert "no prelabel backend, or an older one (HTTP 404)" in said


def test_a_view_of_another_version_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with StatusReader("http://127.0.0.1:1") as reader:
        monkeypatch.setattr(reader, "text", lambda: '{"model": 1}')
        with pytest.raises(PrelabelError, match="another version"):
            reader.view()
