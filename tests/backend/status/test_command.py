"""`prelabel status` against real HTTP servers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from backend import cli
from backend.commands.status import status
from backend.errors import PrelabelError
from tests.backend.status.rig import NOW, READY, BusyStore, Site, finished, queued, status_site
from tests.limits import WAIT_S

PROJECT = "12.1700000000"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with status_site(tmp_path, label_studio_url="https://labels.example", price_per_minute=0.06) as site:
        works = queued(site.store, PROJECT, range(1, 1_001), NOW - 30)
        finished(site.store, works[:29])
        site.store.fail(works[300].id, "image_timeout", "slow", NOW - 30)
        yield site


Printed = Callable[..., str]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Printed:
    """What the command prints."""
    monkeypatch.setenv("COLUMNS", "160")

    def run(url: str, **options: Any) -> str:
        assert status(url, timeout_s=WAIT_S, **options) == 0
        return capsys.readouterr().out

    return run


def test_it_prints_the_model_the_queue_and_every_project(site: Site, printed: Printed) -> None:
    text = printed(site.url)
    for line in (
        "Qwen3-VL-30B-A3B-Instruct nf4: Ready", "970 waiting, 0 running", "1.0 img/s; time left: 16 min 10 s",
        "1 h since the model was loaded", "¥3.60 for the busy time; the rest will cost ¥0.97", "No API key",
        "The picture came too slowly", "https://labels.example/projects/12/data?task=301",
    ):  # fmt: skip
        assert line in text
    row = next(line for line in text.splitlines() if line.startswith("│ 12"))
    assert [cell.strip() for cell in row.split("│")[1:-2]] == ["12", "29", "1,000", "970", "29", "0", "0", "1"]


def test_a_reason_is_said_with_what_to_do_about_it(site: Site, printed: Printed) -> None:
    work = queued(site.store, "13.1", [1])[0]
    site.store.fail(work.id, "image_private_address", "10.0.0.9 is refused", NOW)
    text = " ".join(printed(site.url).split())
    assert "was not allowed: If pictures are meant to come from there, add its network" in text
    assert "to PRELABEL_ALLOWED_NETWORKS and restart prelabel." in text


def test_json_is_what_the_server_says(site: Site, printed: Printed) -> None:
    assert json.loads(printed(site.url, json_output=True)) == site.json()


def test_an_empty_backend_says_the_next_step(tmp_path: Path, printed: Printed) -> None:
    with status_site(tmp_path) as site:
        assert "choose Actions > Retrieve Predictions" in " ".join(printed(site.url).split())


def test_texts_from_outside_neither_style_nor_steer_the_terminal(site: Site, printed: Printed) -> None:
    site.titles = {PROJECT: "[red]x[/red]\x1b[2J"}
    site.engine.status = replace(READY, message="[/bold]\x1b]0;title\x07")
    text = printed(site.url)
    assert "[red]x[/red]\\x1b[2J" in text
    assert "[/bold]" in text
    assert "\x1b]" not in text
    assert "\x07" not in text


@pytest.mark.parametrize("json_output", [False, True], ids=["as text", "as JSON"])
def test_watching_goes_on_until_ctrl_c(site: Site, printed: Printed, json_output: bool) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        site.engine.status = replace(READY, state="restarting")
        if len(pauses) == 3:
            raise KeyboardInterrupt

    assert "restarting" in printed(site.url, watch=True, json_output=json_output, pause=pause).lower()
    assert pauses == [2.0] * 3


def test_a_backend_in_trouble_is_asked_again_while_it_is_watched(site: Site, printed: Printed) -> None:
    def pause(seconds: float) -> None:
        if isinstance(site.store, BusyStore):
            raise KeyboardInterrupt
        site.store = BusyStore()

    assert "(HTTP 503). Trying again." in " ".join(printed(site.url, watch=True, pause=pause).split())


@pytest.mark.parametrize("url", ["ftp://x", "nonsense", "http://", "http://a:b"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(PrelabelError, match="--url must be an address"):
        status(url)


def test_a_missing_password_is_named(tmp_path: Path) -> None:
    with status_site(tmp_path, password="secret") as site, pytest.raises(PrelabelError) as refused:
        status(site.url, timeout_s=WAIT_S)
    assert "Set BASIC_AUTH_USER and BASIC_AUTH_PASS" in str(refused.value)


@pytest.mark.parametrize(
    ("path", "said"),
    [("elsewhere", r"no prelabel backend, or an older one \(HTTP 404\)"), ("other", "of another version")],
)
def test_what_is_no_status_of_ours_is_said(site: Site, path: str, said: str) -> None:
    with pytest.raises(PrelabelError, match=said):
        status(f"{site.url}/{path}", timeout_s=WAIT_S)


def test_the_password_is_taken_from_the_environment(tmp_path: Path) -> None:
    with status_site(tmp_path, password="pässwörd") as site:
        done = CliRunner().invoke(cli.app, ["status", "--url", site.url], env={"BASIC_AUTH_PASS": "pässwörd"})
    assert (done.exit_code, "No tasks yet" in done.output) == (0, True)


def test_a_refusal_is_one_line_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["prelabel", "status", "--url", "http://127.0.0.1:1"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    assert (ended.value.code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("prelabel: No backend answers at http://127.0.0.1:1")
    assert "Is `prelabel serve` running?" in err
