"""A blind audit of a project outlives its file of extra params, and ends only when somebody says so."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from backend.predict.options import read_options
from backend.queue.projects import ProjectBook
from backend.store.state_file import StateFile
from tests.backend.queue.test_projects import DEFAULTS, book


@pytest.mark.parametrize(
    ("said", "share"),
    [
        (None, 0.1),  # Label Studio leaves them out when something else is changed
        ("", 0.1),
        ("{no JSON", 0.1),
        ({"audit_share": 5}, 0.1),
        ({"audit_share": "much"}, 0.1),
        ({"audit_share": None}, 0.1),
        ({"language": "xx", "audit_share": 0.2}, 0.2),
        ({"audit_share": 0}, 0.0),
        ({"language": "en"}, 0.0),
        ({}, 0.0),
        ('{"audit_share": 0.05}', 0.05),
    ],
)
def test_a_blind_audit_ends_only_when_somebody_says_so(tmp_path: Path, said: object, share: float) -> None:
    async def run() -> None:
        kept = book(tmp_path)
        await kept.remember("1", {"audit_share": 0.1})
        await kept.remember("1", said)
        assert kept.options("1").audit_share == share
        assert book(tmp_path).options("1").audit_share == share, "after a restart"

    asyncio.run(run())


@pytest.mark.parametrize(
    "damaged",
    [
        pytest.param({"audit_share": "much"}, id="no number"),
        pytest.param({"audit_share": 7}, id="no share"),
        pytest.param({"audit_share": float("nan")}, id="not a number"),
        pytest.param({"audit_share": None}, id="null"),
        pytest.param({"top_p": 0.5}, id="saved before the audit began"),
        pytest.param({}, id="nothing"),
        pytest.param([["audit_share", 0.3]], id="a list"),
        pytest.param({"audit_share": 0.3, "fields": {"brand": 1}}, id="damaged elsewhere"),
    ],
)
def test_what_the_file_says_of_an_audit_counts_only_if_it_is_sound(
    tmp_path: Path, damaged: object, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "projects.json").write_text(json.dumps({"1": damaged}))
    kept = book(tmp_path)
    kept.keep_audited(lambda: {"1": (0.2, '{"language": "en"}')})
    assert (kept.options("1").audit_share, kept.options("1").language) == (0.2, "en")
    assert "the extra params of 1 projects with a blind audit are not in projects.json" in caplog.text


@pytest.mark.parametrize(
    ("share", "options", "asked"),
    [
        pytest.param(0.2, '{"language": "e', 0.2, id="half of the options"),
        pytest.param(0.2, '{"language": "fr"}', 0.2, id="an option that is none"),
        pytest.param(7.0, "", 0.5, id="no share"),
        pytest.param(float("nan"), "", 0.5, id="not a number"),
        pytest.param("much", "", 0.5, id="a word"),
    ],
)
def test_what_the_store_says_of_an_audit_is_checked_as_the_file_is_and_withholds_rather_too_much(
    tmp_path: Path, share: Any, options: str, asked: float, caplog: pytest.LogCaptureFixture
) -> None:
    kept = book(tmp_path)
    kept.keep_audited(lambda: {"1": (share, options)})
    assert kept.options("1") == DEFAULTS.model_copy(update={"audit_share": asked})
    assert "of 1 of them the store, too, says what cannot be used" in caplog.text


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="no file"),
        pytest.param("{", id="half a file"),
        pytest.param("[]", id="no object"),
        pytest.param('{"1": null}', id="no object of the project"),
        pytest.param('{"2": {"top_p": 0.5}}', id="another project"),
    ],
)
def test_what_the_file_has_lost_of_a_project_with_a_blind_audit_is_as_at_its_last_task(
    tmp_path: Path, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    if content is not None:
        (tmp_path / "projects.json").write_text(content)
    last = read_options({"language": "en", "fields": {"brand": {"instruction": "look"}}}, DEFAULTS)[0]
    kept = book(tmp_path)
    kept.keep_audited(lambda: {"1": (0.2, last.model_dump_json()), "3": (0.1, "")})
    assert kept.options("1") == last.model_copy(update={"audit_share": 0.2})
    assert kept.options("3") == DEFAULTS.model_copy(update={"audit_share": 0.1})
    assert "the extra params of 2 projects with a blind audit are not in projects.json" in caplog.text
    asyncio.run(kept.remember("4", {"top_p": 0.5}))
    assert book(tmp_path).options("1").audit_share == 0.2, "it is in the file again"


def test_a_blind_audit_that_was_ended_does_not_begin_again_with_a_restart(tmp_path: Path) -> None:
    async def run() -> None:
        kept = book(tmp_path)
        for extra_params in ({"audit_share": 0.2}, {"top_p": 0.5}, {}):
            await kept.remember("1", extra_params)

    asyncio.run(run())
    later = book(tmp_path)
    later.keep_audited(lambda: {"1": (0.2, "")})  # prelabel ended before the store heard of it
    assert later.options("1") == DEFAULTS


def test_a_project_with_a_blind_audit_makes_no_room_for_others(tmp_path: Path) -> None:
    async def run() -> ProjectBook:
        kept = ProjectBook(StateFile(tmp_path / "projects.json"), DEFAULTS, max_projects=3)
        kept.keep_audited(lambda: {"1": (0.2, ""), "2": (0.2, "")})
        for number in range(1, 50):
            await asyncio.gather(*(kept.remember(f"{number}", {"top_p": 0.5, "audit_share": 0.2}) for _ in range(3)))
        return kept

    kept = asyncio.run(run())
    assert [number for number in range(1, 50) if kept.options(f"{number}") != DEFAULTS] == [1, 2, 49]


def test_where_every_project_has_a_blind_audit_none_is_forgotten(tmp_path: Path) -> None:
    async def run() -> ProjectBook:
        kept = ProjectBook(StateFile(tmp_path / "projects.json"), DEFAULTS, max_projects=2)
        kept.keep_audited(lambda: {f"{number}": (0.2, "") for number in range(1, 4)})
        for number in range(1, 5):
            await kept.remember(f"{number}", {"audit_share": 0.2})
        return kept

    kept = asyncio.run(run())
    assert [kept.options(f"{number}").audit_share for number in range(1, 5)] == [0.2] * 4
