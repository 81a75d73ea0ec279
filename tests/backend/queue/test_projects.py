from __future__ import annotations

import asyncio
import itertools
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from backend.predict.options import (
    MAX_NAMED_FIELDS,
    MAX_UNKNOWN,
    MAX_VALUES,
    ProjectOptions,
    default_options,
    read_options,
    still_asks_for,
)
from backend.queue.projects import ProjectBook
from backend.settings import load_settings
from backend.store.state_file import StateFile
from tests.limits import WAIT_S, eventually

DEFAULTS = ProjectOptions()


def book(folder: Path) -> ProjectBook:
    return ProjectBook(StateFile(folder / "projects.json"), DEFAULTS)


def test_extra_params_change_what_they_name_and_nothing_else() -> None:
    options, warnings = read_options({"language": "en", "temperature": 0.2}, DEFAULTS)
    assert (options.language, options.temperature, options.top_p) == ("en", 0.2, 0.9)
    assert warnings == []


@pytest.mark.parametrize("nothing", [None, {}, "", "  "], ids=repr)
def test_no_extra_params_mean_the_defaults(nothing: Any) -> None:
    assert read_options(nothing, DEFAULTS)[0] == DEFAULTS


def test_extra_params_may_be_json_text() -> None:
    assert read_options('{"top_p": 0.5}', DEFAULTS)[0].top_p == 0.5


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        pytest.param({"temprature": 1}, "did you mean temperature", id="misspelt key"),
        pytest.param({"colour": 1}, "no such extra param", id="unknown key"),
        pytest.param({"temperature": 9}, "temperature", id="out of range"),
        pytest.param({"temperature": float("nan")}, "temperature", id="not a number"),
        pytest.param({"language": "fr"}, "language", id="unknown language"),
        pytest.param({"max_new_tokens": "many"}, "max_new_tokens", id="word for a number"),
        pytest.param({"extra_instructions": "x" * 5000}, "extra_instructions", id="too long a text"),
        pytest.param({"caption_min_length": 200}, "larger than caption_max_length", id="lengths crossed"),
        pytest.param([1], "must be an object", id="list"),
        pytest.param(7, "must be an object", id="number"),
        pytest.param({"fields": {"\udc00": {"instruction": "x"}}}, "unicode", id="half a character in a field's name"),
        pytest.param({"calibration": {"a\ud800": 1}}, "unicode", id="half a character in a calibrated field's name"),
        pytest.param({"review_thresholds": {"\ud800": 1}}, "unicode", id="half a character beside a threshold"),
        pytest.param({"\ud800": 1}, "\\ud800", id="half a character in a key"),
        pytest.param({"extra_instructions": "\ud800"}, "unicode", id="half a character in a text"),
        pytest.param({"fields": {"x" * 201: {}}}, "at most 200 characters", id="a longer name than any control has"),
        pytest.param("{", "not JSON", id="broken JSON"),
        pytest.param("[" * 5000, "not JSON", id="deep JSON"),
    ],
)
def test_what_cannot_be_used_is_a_warning_and_the_rest_applies(extra: Any, said: str) -> None:
    if isinstance(extra, dict):
        extra = {**extra, "top_p": 0.5}
    options, warnings = read_options(extra, DEFAULTS)
    assert said in " ".join(warnings)
    assert options.model_copy(update={"top_p": 0.9}) == DEFAULTS
    if isinstance(extra, dict):
        assert options.top_p == 0.5


TYPED: list[Any] = [
    None, {}, "", '{"language": "en"}', {"language": "en"}, {"language": "zh"}, {"language": "fr", "top_p": 2},
    {"caption_min_length": 20}, {"caption_min_length": 200}, {"extra_instructions": " Name the material.\n"},
    {"review_threshold": 0.7}, {"review_thresholds": {"b": 0.5, "a": "0.25"}}, {"calibration": {"a": 2}},
    {"fields": {"brand": {"instruction": "x"}}}, {"temperature": "0"},
]  # fmt: skip


@pytest.mark.parametrize("typed", TYPED, ids=repr)
@pytest.mark.parametrize(
    "settings",
    [{}, {"language": "en"}, {"review_threshold": 0.8}, {"language": "en", "review_threshold": 0.0}],
    ids=repr,
)
def test_what_is_typed_yet_asks_for_the_options_it_asked_for_whatever_the_servers_settings_are(
    typed: Any, settings: dict[str, Any]
) -> None:
    """A command may have others, and knows the options as the store has them."""
    options, _ = read_options(typed, default_options(load_settings(settings)))
    kept = ProjectOptions.model_validate_json(options.model_dump_json())

    assert still_asks_for(typed, kept)
    assert still_asks_for(typed, kept.model_copy(update={"audit_share": 0.5}))


@pytest.mark.parametrize(("before", "now"), list(itertools.permutations([*TYPED[6:10], *TYPED[11:]], 2)), ids=repr)
def test_what_is_typed_now_asks_for_other_options_than_something_else_did(before: Any, now: Any) -> None:
    """A review_threshold that was taken out may be the server's own: it changes no answer and no score."""
    options, _ = read_options(before, DEFAULTS)
    assert still_asks_for(now, options) == (read_options(now, DEFAULTS)[0] == options)


def test_of_many_unknown_keys_a_few_are_named_and_the_others_counted() -> None:
    options, warnings = read_options({f"{n}temperature" * 20: n for n in range(MAX_UNKNOWN + 1_000)}, DEFAULTS)
    assert options == DEFAULTS
    assert len(warnings) == MAX_UNKNOWN + 1
    assert warnings[-1] == "and 1,000 more extra params that there are not"
    assert max(map(len, warnings)) < 500


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param("fields", {"c": dict.fromkeys(map(str, range(MAX_VALUES)), 1)}, id="keys that there are not"),
        pytest.param("fields", {str(n): {"kind": "x"} for n in range(MAX_VALUES)}, id="fields that say nothing right"),
        pytest.param("review_thresholds", dict.fromkeys(map(str, range(MAX_VALUES + 1)), "x"), id="no numbers"),
        pytest.param("calibration", [["c", 1.0]] * MAX_VALUES, id="pairs"),
        pytest.param("extra_instructions", [[[1] * MAX_VALUES]], id="lists in lists"),
    ],
)
@pytest.mark.parametrize("as_text", [False, True])
def test_of_one_extra_param_so_many_values_are_read_and_the_others_apply(
    key: str, value: object, *, as_text: bool
) -> None:
    extra = {key: value, "top_p": 0.5}
    options, [said] = read_options(json.dumps(extra) if as_text else extra, DEFAULTS)
    assert said.startswith(f"{key}: it holds more than {MAX_VALUES} values; ")
    assert options == DEFAULTS.model_copy(update={"top_p": 0.5})


def test_all_that_may_be_said_of_all_fields_is_read() -> None:
    names = [f"f{n}" for n in range(MAX_NAMED_FIELDS)]
    asked = {"instruction": "a, b", "kind": "short", "max_chars": 9}
    extra = {"fields": dict.fromkeys(names, asked), "review_thresholds": dict.fromkeys(names, 0.5)}
    assert read_options({**extra, "calibration": dict.fromkeys(names, 2.0)}, DEFAULTS)[1] == []


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
