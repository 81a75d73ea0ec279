"""The extra params of all projects, in one file: which hold, however many there are and however long they are."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from backend.predict.options import ProjectOptions
from backend.queue.projects import ProjectBook
from backend.store.state_file import StateFile
from tests.limits import WAIT_S, eventually

DEFAULTS = ProjectOptions()


def book(folder: Path) -> ProjectBook:
    return ProjectBook(StateFile(folder / "projects.json"), DEFAULTS)


def test_what_one_project_is_told_keeps_no_other_from_being_saved(tmp_path: Path) -> None:
    async def remember() -> None:
        first = book(tmp_path)
        await first.remember("1.17", {"fields": {"\udc00": {"instruction": "x"}}, "top_p": 0.5})
        await first.remember("2.17", '{"calibration": {"\\ud800": 1}}')
        await first.remember("3.17", {"audit_share": 0.2})

    asyncio.run(remember())
    assert book(tmp_path).options("1.17").top_p == 0.5
    assert book(tmp_path).options("3.17").audit_share == 0.2


def test_a_file_holds_all_that_json_holds(tmp_path: Path) -> None:
    document = {"\ud800": ["\udfff", "秋\n", "\0"]}
    StateFile(tmp_path / "a.json").save(document)
    assert StateFile(tmp_path / "a.json").load() == document


def test_projects_do_not_mix_and_survive_a_restart(tmp_path: Path) -> None:
    async def remember() -> None:
        first = book(tmp_path)
        await first.remember("1.17", {"language": "en"})
        await first.remember("2.17", {"top_p": 0.5})

    asyncio.run(remember())
    second = book(tmp_path)
    assert second.options("1.17") == ProjectOptions(language="en", caption_min_length=30, caption_max_length=60)
    assert second.options("2.17") == ProjectOptions(top_p=0.5)
    assert second.options("3.17") == DEFAULTS


@pytest.mark.parametrize(
    ("told", "language"),
    [
        pytest.param([None], "en", id="a title is changed: tried without them"),
        pytest.param([None, {"language": "en"}, None, {"language": "en"}, None], "en", id="three titles"),
        pytest.param([None, None], DEFAULTS.language, id="emptied by a person: tried, and told"),
        pytest.param([None, {"language": "en"}, None, None], DEFAULTS.language, id="a title, then emptied"),
        pytest.param([{}], DEFAULTS.language, id="an object without any"),
        pytest.param([None, {"top_p": 0.5}], DEFAULTS.language, id="others"),
    ],
)
def test_extra_params_hold_until_it_is_clear_that_they_are_gone(
    tmp_path: Path, told: list[object], language: str
) -> None:
    async def run() -> None:
        kept = book(tmp_path)
        for extra_params in [{"language": "en"}, *told]:
            await kept.remember("1", extra_params)
        assert kept.options("1").language == language

    asyncio.run(run())
    assert book(tmp_path).options("1").language == language


def test_a_changed_default_reaches_projects_that_did_not_set_it(tmp_path: Path) -> None:
    asyncio.run(book(tmp_path).remember("1", {"top_p": 0.5}))
    later = ProjectBook(StateFile(tmp_path / "projects.json"), ProjectOptions(language="en"))
    assert later.options("1") == ProjectOptions(language="en", top_p=0.5)


def test_the_file_is_written_only_when_something_changed(tmp_path: Path) -> None:
    async def run() -> None:
        kept = book(tmp_path)
        await kept.remember("1", None)
        assert not (tmp_path / "projects.json").exists()
        await kept.remember("1", {"language": "en"})
        (tmp_path / "projects.json").unlink()
        await kept.remember("1", {"language": "en"})
        assert not (tmp_path / "projects.json").exists()

    asyncio.run(run())


def test_the_number_of_projects_is_bounded(tmp_path: Path) -> None:
    async def run() -> None:
        kept = ProjectBook(StateFile(tmp_path / "projects.json"), DEFAULTS, max_projects=3)
        for number in range(5):
            await kept.remember(str(number), {"language": "en"})
            kept.note_version(str(number), f"v{number}")
        assert [kept.options(str(n)).language for n in range(5)] == ["zh", "zh", "en", "en", "en"]
        assert kept.versions() == ["v4", "v3", "v2"]

    asyncio.run(run())


def test_a_folder_that_cannot_be_written_costs_the_memory_of_it_only(tmp_path: Path) -> None:
    async def run() -> None:
        kept = book(tmp_path / "gone")
        await kept.remember("1", {"language": "en"})
        assert kept.options("1").language == "en"

    asyncio.run(run())


class SlowFile(StateFile):
    """Counts how often it is written, and waits with the first time until it may go on. `fails`: so often."""

    def __init__(self, path: Path, fails: int = 0) -> None:
        super().__init__(path)
        self.num_saved = 0
        self.may_go_on = threading.Event()
        self._fails = fails

    def save(self, document: dict[str, Any]) -> None:
        self.num_saved += 1
        assert self.may_go_on.wait(WAIT_S)
        if self.num_saved <= self._fails:
            raise OSError("no space left")
        super().save(document)


def test_projects_that_change_while_the_file_is_written_share_the_next_time(tmp_path: Path) -> None:
    async def run() -> None:
        file = SlowFile(tmp_path / "projects.json")
        kept = ProjectBook(file, DEFAULTS)
        changing = [asyncio.create_task(kept.remember(str(n), {"top_p": 0.5})) for n in range(50)]
        await asyncio.sleep(0)
        file.may_go_on.set()
        await asyncio.gather(*changing)
        assert file.num_saved <= 2

    asyncio.run(run())
    assert [book(tmp_path).options(str(n)).top_p for n in range(50)] == [0.5] * 50


def test_who_changes_nothing_waits_for_nothing_that_others_have_changed(tmp_path: Path) -> None:
    async def run() -> None:
        file = SlowFile(tmp_path / "projects.json")
        kept = ProjectBook(file, DEFAULTS)
        changing = [asyncio.create_task(kept.remember(project, {"top_p": 0.5})) for project in "12"]
        await eventually(lambda: file.num_saved)
        await kept.remember("3", None)
        assert not any(other.done() for other in changing)
        file.may_go_on.set()
        await asyncio.gather(*changing)

    asyncio.run(run())


def test_what_could_not_be_written_is_written_with_the_next_setup_of_any_project(tmp_path: Path) -> None:
    async def run() -> None:
        file = SlowFile(tmp_path / "projects.json", fails=1)
        file.may_go_on.set()
        kept = ProjectBook(file, DEFAULTS)
        await kept.remember("1", {"top_p": 0.5})
        await kept.remember("2", None)
        assert file.num_saved == 2

    asyncio.run(run())
    assert book(tmp_path).options("1").top_p == 0.5


def test_a_project_that_is_forgotten_for_others_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        kept = ProjectBook(StateFile(tmp_path / "projects.json"), DEFAULTS, max_projects=2)
        for project in ("1", "2", "2", "3"):
            await kept.remember(project, {"top_p": 0.5})
        assert [kept.options(project).top_p for project in ("1", "2", "3")] == [DEFAULTS.top_p, 0.5, 0.5]

    asyncio.run(run())
    [said] = caplog.messages
    assert said == "more than 2 projects have extra params: those of project 1 do not hold until its next /setup"


def long_params(length: int, **more: Any) -> dict[str, Any]:
    return {"extra_instructions": "x" * length, **more}


@pytest.mark.parametrize(
    ("told", "short"),
    [
        pytest.param([(f"{n}", long_params(100)) for n in range(9)], set(), id="all are short"),
        pytest.param([("1", long_params(1_500)), ("2", long_params(50))], {"1"}, id="a long one alone"),
        pytest.param([("1", long_params(50)), ("2", long_params(1_500))], {"2"}, id="the last is the longest"),
        pytest.param([(f"{n}", long_params(300 + n)) for n in range(4)], {"3"}, id="the longest of many"),
        pytest.param(
            [("1", long_params(1_500, audit_share=0.2)), ("2", long_params(50))], {"1"}, id="one with a blind audit"
        ),
    ],
)
def test_beyond_so_many_bytes_the_longest_do_not_hold_and_are_named(
    tmp_path: Path, told: list[tuple[str, Any]], short: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    def small_book() -> ProjectBook:
        return ProjectBook(StateFile(tmp_path / "projects.json"), DEFAULTS, max_bytes=1_300)

    async def run() -> ProjectBook:
        kept = small_book()
        for project, extra_params in told:
            warnings = await kept.remember(project, extra_params)
            assert ["these are the longest" in warning for warning in warnings] == [True] * (project in short)
        return kept

    for kept in (asyncio.run(run()), small_book()):
        for project, extra_params in told:
            options = kept.options(project)
            assert bool(options.extra_instructions) == (project not in short)
            assert options.audit_share == extra_params.get("audit_share", 0)
    named = [said for said in caplog.messages if "longer than 1300 bytes" in said]
    assert [said.rpartition(" ")[2] for said in named] == sorted(short)
    assert (tmp_path / "projects.json").stat().st_size < 1_500


def test_a_longer_file_is_shortened_when_it_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    document = {f"{n}": long_params(100 * n) for n in range(1, 11)}
    StateFile(tmp_path / "projects.json").save(document)
    kept = ProjectBook(StateFile(tmp_path / "projects.json"), DEFAULTS, max_bytes=3_000)
    assert [n for n in range(1, 11) if not kept.options(f"{n}").extra_instructions] == [8, 9, 10]
    assert "those of the 3 longest do not hold, but for audit_share" in caplog.text


def test_damaged_extra_params_are_named_and_the_rest_of_them_holds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    document = {"1": {"top_p": 7, "language": "en"}, "2": {"temprature": 1}, "3": {"top_p": 0.5}, "4": 7}
    (tmp_path / "projects.json").write_text(json.dumps(document))
    kept = book(tmp_path)
    assert kept.options("1").language == "en"
    assert kept.options("3").top_p == 0.5
    [said] = caplog.messages
    assert said.startswith("projects.json says of 3 projects what cannot be used; the rest holds, until their next")
    assert said.endswith("They are 1, 2, 4")
