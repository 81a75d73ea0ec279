"""`prelabel status` against real HTTP servers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from backend import cli
from backend.commands.status import status
from backend.engine.api import EngineStatus
from backend.errors import PrelabelError
from backend.pages.engine_words import Why
from backend.status.check import bad, doubtful, good
from tests.backend.status.rig import NOW, READY, RECIPE, BusyStore, Site, finished, queued, status_site
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


def test_what_is_withheld_is_a_number_of_its_own_and_they_add_up(site: Site, printed: Printed) -> None:
    site.store.set_present(RECIPE, "v1", NOW - 20, 0.5)
    site.store.returned([work.id for work in site.store.due(PROJECT, 99, NOW)], NOW, NOW - 10)
    [project] = site.json()["projects"]
    withheld, returned = project["num_withheld"], project["num_returned"]
    assert (withheld + returned, withheld > 0) == (29, True)
    text = " ".join(printed(site.url).split())
    assert f"1 failed, 0 to deliver, {returned} sent in a reply, unconfirmed, 0 in Label Studio, 0 to review" in text
    assert f"{withheld} withheld for the blind audit; last" in text
    assert f"{withheld} tasks are withheld for the blind audit" in text
    assert "answers stay here until audit_share is 0" in text, "there is no API key"
    assert f"{withheld} tasks are withheld for the blind audit" in site.page("en")
    assert f"{withheld} 个任务为盲检保留" in site.page("zh")


def test_it_prints_the_model_the_queue_and_every_project(site: Site, printed: Printed) -> None:
    text = printed(site.url)
    for line in (
        "Qwen3-VL-30B-A3B-Instruct nf4: Ready", "970 waiting, 0 running", "1.0 img/s; time left: 16 min 10 s",
        "1 h since the model was loaded", "¥3.60 for the busy time; the rest will cost ¥0.97", "No API key",
        "The picture came too slowly", "https://labels.example/projects/12/data?task=301: slow",
    ):  # fmt: skip
        assert line in text
    lines = [line.rstrip() for line in text.splitlines()]
    counts = (
        "29 done, 970 waiting, 1 failed, 29 to deliver, 0 sent in a reply, unconfirmed, 0 in Label Studio, 0 to review"
    )
    assert lines[lines.index("12") + 1] == f"  of 1,000: {counts}; last 30 s ago"


def test_a_reason_is_said_with_what_to_do_about_it(site: Site, printed: Printed) -> None:
    work = queued(site.store, "13.1", [1])[0]
    site.store.fail(work.id, "image_private_address", "10.0.0.9 is refused", NOW)
    text = " ".join(printed(site.url).split())
    assert "was not allowed: If pictures are meant to come from there, add its network" in text
    assert "to PRELABEL_ALLOWED_NETWORKS and restart prelabel." in text


def test_json_is_what_the_server_says(site: Site, printed: Printed) -> None:
    assert json.loads(printed(site.url, json_output=True)) == site.json()


def test_a_load_says_how_fast_it_goes(tmp_path: Path, printed: Printed) -> None:
    with status_site(tmp_path) as site:
        site.engine.status = EngineStatus("loading", "download", 0.3, left_s=400.0, bytes_per_s=110e6)
        assert "Loading, Downloading the model (110.0 MB/s, 6 min 40 s left) 30%" in " ".join(printed(site.url).split())
        assert "下载模型（110.0 MB/秒，还需 6 分钟 40 秒）：30%" in site.page("zh")
        site.engine.status = EngineStatus("loading", "download", 0.3, stalled_s=40.0)
        assert "Downloading the model (nothing has come for 40 s) 30%" in " ".join(printed(site.url).split())
        assert "下载模型（已有 40 秒没有收到数据）：30%" in site.page("zh")


def test_of_several_cards_it_says_why_this_one_was_taken(tmp_path: Path, printed: Printed) -> None:
    with status_site(tmp_path) as site:
        assert "had the most free memory" not in printed(site.url) + site.page("en")
        assert READY.ready is not None
        others = ("RTX 3090 (cuda:0): 3.0 GiB free of 24.0", "cuda:2: Tesla T4 has compute capability 7.5")
        ready = replace(READY.ready, card="RTX 4090 (cuda:1)", other_cards=others)
        site.engine.status = replace(READY, ready=ready)
        told = (
            f"or for auto hold the best model, this one had the most free memory: {'; '.join(others)}. PRELABEL_DEVICE"
        )
        assert told in " ".join(printed(site.url).split())
        assert told in site.page("en")
        assert "它的空闲显存最多：" in site.page("zh")
        site.engine.status = replace(READY, ready=replace(ready, other_cards=(), card_named=True))
        assert "PRELABEL_DEVICE names this card" in printed(site.url)
        assert "PRELABEL_DEVICE names this card" in site.page("en")
        assert "这块显卡由 PRELABEL_DEVICE 指定" in site.page("zh")


def test_a_restart_says_why_in_the_language_of_the_page(tmp_path: Path, printed: Printed) -> None:
    with status_site(tmp_path) as site:
        why = (Why("engine_device", {"exitcode": "70"}),)
        message = "the engine process ended with exit code 70: the device failed, the log says how"
        site.engine.status = EngineStatus("restarting", message=message, why=why, num_restarts=1)
        assert message in " ".join(printed(site.url).split())
        assert message in site.page("en")
        page = site.page("zh")
        assert "模型进程已结束，退出码 70：显卡出错，详见日志" in page
        assert message in page  # to be searched for: the original, folded
        site.engine.status = replace(READY, num_restarts=1, ended=message, ended_why=why)
        told = f"automatic restarts: 1 Restarted last because of this: {message}"
        assert told in " ".join(printed(site.url).split())
        assert f"Restarted last because of this: {message}" in site.page("en")
        assert "最近一次重启的原因：模型进程已结束，退出码 70：显卡出错，详见日志" in site.page("zh")


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


@pytest.mark.parametrize(
    "title",
    [
        "2026 秋冬女装商品图片预标注项目（含外套与配饰），第三批，供华东仓复核" * 2,
        "Garments " * 20,
        "x" * 170,
    ],
    ids=["Chinese", "English", "one word"],
)
@pytest.mark.parametrize("columns", ["80", "40"])
def test_nothing_is_cut_in_a_narrow_terminal(
    site: Site, printed: Printed, monkeypatch: pytest.MonkeyPatch, columns: str, title: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    site.titles = {PROJECT: title}
    text = printed(site.url)
    assert "…" not in text
    assert max(cell_len(line) for line in text.splitlines()) <= int(columns)
    joined = "".join(text.split())
    assert "".join(title.split()) in joined
    for words in ("970waiting", "29todeliver", "0inLabelStudio", "last30sago", "data?task=301"):
        assert words in "".join(char for char in joined if char not in "│┃")


def test_what_the_checks_found_stands_first(site: Site, printed: Printed) -> None:
    site.checks = [
        bad("token", "token_refused"),
        doubtful("data_dir", "data_dir_low", folder="/d\x1b[2J", free="0.5"),
        good("address", "address_good", url="http://a", version="1"),
    ]
    lines = printed(site.url).splitlines()
    assert lines[0].startswith("✗ API key: Label Studio does not accept LABEL_STUDIO_API_KEY. Make a new one")
    said = " ".join(lines)
    assert "! Data folder: /d\\x1b[2J has 0.5 GiB left" in said
    assert "http://a is Label Studio" not in said


def test_without_an_address_it_asks_where_serve_would_listen(site: Site) -> None:
    port = site.url.rpartition(":")[2]
    for host in ("127.0.0.1", "0.0.0.0"):
        env = {"PRELABEL_PORT": port, "PRELABEL_HOST": host, "PRELABEL_ALLOW_NO_AUTH": "true"}
        done = CliRunner().invoke(cli.app, ["status"], env=env)
        assert (done.exit_code, "1,000" in done.output) == (0, True), done.output


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

    assert "cannot answer now: Another program holds the file. Trying again." in " ".join(
        printed(site.url, watch=True, pause=pause).split()
    )


@pytest.mark.parametrize("url", ["ftp://x", "nonsense", "http://", "http://a:b"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(PrelabelError, match="--url must be an address"):
        status(url)


def test_a_missing_password_is_named(tmp_path: Path) -> None:
    with status_site(tmp_path, password="secret") as site, pytest.raises(PrelabelError) as refused:
        status(site.url, timeout_s=WAIT_S)
    assert "Set BASIC_AUTH_USER and BASIC_AUTH_PASS" in str(refused.value)


def test_a_name_that_the_backend_was_not_told_of_is_named(site: Site) -> None:
    with pytest.raises(PrelabelError, match=r"Ask it as localhost, or name the host in its PRELABEL_ALLOWED_HOSTS"):
        status(site.url.replace("127.0.0.1", "0.0.0.0"), timeout_s=WAIT_S)


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
