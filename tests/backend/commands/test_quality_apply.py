"""`--apply`: what it writes into Label Studio, what it leaves, and when it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from backend.commands.join import as_object
from backend.commands.model_settings import ModelSettings
from backend.commands.quality_apply import apply_calibration, apply_threshold
from backend.errors import UsageError
from backend.label_studio.client import LabelStudioClient
from backend.label_studio.tabs import arrange_tabs
from backend.predict.options import ProjectOptions, read_options
from backend.quality.summary import Quality
from backend.quality.words import Sentences
from tests.backend.fake_label_studio import LEGACY_KEY, FakeLabelStudio, fake_label_studio
from tests.backend.quality.given import quality

TYPED = {"language": "en", "extra_instructions": "Name the material."}


@pytest.fixture
def server() -> Iterator[FakeLabelStudio]:
    with fake_label_studio() as fake:
        fake.add_project("A", "<View/>")
        yield fake


def add_backend(server: FakeLabelStudio, **more: Any) -> dict[str, Any]:
    number = len(server.backends) + 1
    made = {
        "id": number, "project": 1, "url": f"http://prelabel.internal:909{number}", "title": "m-1",
        "description": "prelabel", "auth_method": "BASIC_AUTH", "basic_auth_user": "u", "extra_params": TYPED,
    }  # fmt: skip
    server.backends[number] = {**made, **more}
    return server.backends[number]


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ({"top_p": 0.5}, {"top_p": 0.5}), ('{"top_p": 0.5}', {"top_p": 0.5}), ("", {}), (None, {}), ([1], {}),
        ("top_p=0.5", {}), ("[" * 100_000, {}), ('{"a":' * 100_000, {}), ('{"a": ' + "9" * 5_000 + "}", {}),
    ],
    ids=lambda given: str(given)[:20],
)  # fmt: skip
def test_what_somebody_typed_as_extra_params_is_an_object_or_nothing(typed: object, read: dict[str, Any]) -> None:
    assert as_object(typed) == read


def options_of(typed: Any) -> ProjectOptions:
    """Of answers that were made when that was typed."""
    return read_options(typed, ProjectOptions())[0]


def typed_now(server: FakeLabelStudio) -> ProjectOptions:
    return options_of(server.backends[max(server.backends)]["extra_params"] if server.backends else {})


def apply(
    server: FakeLabelStudio, found: Quality, language: Any = "en", options: ProjectOptions | None = None
) -> list[str]:
    options = options or typed_now(server)
    told: list[str] = []
    with LabelStudioClient(server.url, LEGACY_KEY) as client:
        apply_threshold(ModelSettings(client, 1, Sentences(language), told.append), found, options)
    return told


def filters(server: FakeLabelStudio) -> dict[str, list[tuple[str, str, Any]]]:
    """Of each tab."""
    return {
        view["data"]["title"]: [(i["filter"], i["operator"], i["value"]) for i in view["data"]["filters"]["items"]]
        for view in server.views.values()
    }


@pytest.mark.parametrize("typed", [TYPED, '{"language": "en", "extra_instructions": "Name the material."}'])
def test_the_threshold_joins_what_people_typed_and_nothing_else_changes(server: FakeLabelStudio, typed: Any) -> None:
    backend = add_backend(server, extra_params=typed)
    before = dict(backend)

    told = apply(server, quality(80, 0))

    assert backend["extra_params"] == {**TYPED, "review_thresholds": {"season": 0.05}}
    assert {
        k: v for k, v in backend.items() if k not in ("extra_params", "basic_auth_pass", "state", "model_version")
    } == {k: v for k, v in before.items() if k not in ("extra_params", "state", "model_version")}
    assert backend["basic_auth_pass"] == "", "which Label Studio takes as unchanged"
    assert '{"review_thresholds": {"season": 0.05}}; all else there stays' in told[1]
    assert "Retrieve Predictions once more" in told[-1]


def test_two_tabs_are_made_once_and_follow_the_threshold(server: FakeLabelStudio) -> None:
    add_backend(server)
    not_completed = ("filter:tasks:completed_at", "empty", True)
    score = "filter:tasks:predictions_score"

    apply(server, quality(80, 0), "zh")
    found = quality(80, 0)
    apply(server, replace(found, threshold=replace(found.threshold, threshold=0.83)), "zh")

    assert filters(server) == {
        "可直接通过": [(score, "greater_or_equal", 0.83), not_completed],
        "需人工复核": [(score, "less", 0.83), not_completed],
    }


def test_a_tab_of_what_needs_review_that_is_there_is_left_and_the_rest_is_in_one_beside_it(
    server: FakeLabelStudio,
) -> None:
    """A field that is sure is not marked for another's sake, so what is not marked is not all that may pass."""
    add_backend(server)
    with LabelStudioClient(server.url, LEGACY_KEY) as client:
        arrange_tabs(client, 1, "需人工复核")
    before = filters(server)

    apply(server, quality(80, 0), "zh")
    told = apply(server, quality(80, 0), "zh")

    after = filters(server)
    assert [after.pop(title)[0][1] for title in ("可直接通过", "未达门槛")] == ["greater_or_equal", "less"]
    assert after == before
    assert "“可直接通过”中的任务可以直接通过，“未达门槛”中的由人看" in told[-1]


def test_in_another_language_the_same_tabs_are_changed(server: FakeLabelStudio) -> None:
    add_backend(server)
    apply(server, quality(80, 0), "zh")

    told = apply(server, quality(80, 0), "en")

    assert set(filters(server)) == {"可直接通过", "需人工复核"}
    assert "Done: tasks in “可直接通过” may pass unseen, those in “需人工复核” are for people" in told[-1]


@pytest.mark.parametrize(("own", "written"), [(0.4, 0.4), (0.9, 0.7), (None, 0.7)])
def test_a_field_has_its_own_threshold_where_that_asks_for_less_than_the_task_s(
    server: FakeLabelStudio, own: float | None, written: float
) -> None:
    """Else a task in the tab of what may pass would be marked for review."""
    backend = add_backend(server)
    found = quality(80, 0)
    [season] = found.fields
    assert season.threshold is not None
    season = replace(season, threshold=replace(season.threshold, threshold=own))
    found = replace(found, threshold=replace(found.threshold, threshold=0.7), fields=(season,))

    apply(server, found)

    assert backend["extra_params"]["review_thresholds"] == {"season": written}
    assert filters(server)["May pass unseen"][0][2] == 0.7


def test_a_label_that_nobody_filled_blind_is_not_marked_in_a_task_that_may_pass(server: FakeLabelStudio) -> None:
    backend = add_backend(server)
    found = quality(80, 0)
    found = replace(found, threshold=replace(found.threshold, threshold=0.3), unchecked=("scene",))

    told = apply(server, found)

    assert backend["extra_params"]["review_thresholds"] == {"scene": 0.3, "season": 0.05}
    assert "Nobody filled scene in any picture that was checked blind" in told[0]


def calibrate(server: FakeLabelStudio, found: Quality, options: ProjectOptions | None = None) -> list[str]:
    options = options or typed_now(server)
    told: list[str] = []
    with LabelStudioClient(server.url, LEGACY_KEY) as client:
        apply_calibration(ModelSettings(client, 1, Sentences("en"), told.append), found, options)
    return told


def test_a_calibration_joins_what_people_typed_and_takes_out_thresholds_of_other_scores(
    server: FakeLabelStudio,
) -> None:
    backend = add_backend(server)
    apply(server, quality(80, 0), "zh")
    with LabelStudioClient(server.url, LEGACY_KEY) as client:
        arrange_tabs(client, 1, "Needs review")
    found = quality(40, 20)

    told = calibrate(server, found)

    [season] = found.fields
    assert backend["extra_params"] == {**TYPED, "calibration": {"season": season.temperature}}
    assert not {"可直接通过", "需人工复核"} & set(filters(server))
    assert "Needs review" in filters(server), "which is by the flag in the form"
    assert 'taking out review_thresholds = {"season": 0.05} and the two tabs of --apply, where they' in told[0]
    assert f'{{"calibration": {{"season": {season.temperature}}}}}; all else there stays' in told[1]
    assert told[2].endswith("prelabel quality --project 1 --apply")


def test_the_calibration_of_a_field_that_nobody_filled_in_these_labels_stays(server: FakeLabelStudio) -> None:
    """Of --since, say: they tell nothing of it."""
    backend = add_backend(server, extra_params={"calibration": {"scene": 2.5, "season": 9.0}})
    found = quality(40, 20)

    calibrate(server, found)

    assert backend["extra_params"]["calibration"] == {"scene": 2.5, **found.calibration}
    with pytest.raises(UsageError, match="nothing to change"):
        calibrate(server, found)


@pytest.mark.parametrize(("num_right", "num_wrong", "typed"), [(20, 10, {}), (40, 20, {"season": None})])
def test_a_calibration_that_changes_nothing_is_not_written(
    server: FakeLabelStudio, num_right: int, num_wrong: int, typed: dict[str, Any]
) -> None:
    found = quality(num_right, num_wrong)
    add_backend(server, extra_params={"calibration": {name: found.fields[0].temperature for name in typed}})

    with pytest.raises(UsageError, match="nothing to change"):
        calibrate(server, found)
    assert server.changes == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (quality(30, 0), "Nothing may pass unseen yet"),
        (quality(40, 40), "Nothing may pass unseen: even of the 80 with the highest scores 50%"),
        (quality(80, 0, num_changed=200), "The guarantee is void since 2026-12-03"),
    ],
)
def test_without_a_guarantee_nothing_is_written(server: FakeLabelStudio, found: Quality, said: str) -> None:
    add_backend(server)

    with pytest.raises(UsageError, match=said):
        apply(server, found)
    assert server.changes == []


@pytest.mark.parametrize(
    "typed",
    [
        {"language": "en"},
        {**TYPED, "extra_instructions": "Name the colour."},
        {**TYPED, "calibration": {"season": 3.2}},
        {**TYPED, "temperature": 0.9},
        {"extra_instructions": "Name the material.", "language": "zh"},
        "",
    ],
)
@pytest.mark.parametrize("write", [apply, calibrate])
def test_what_was_found_on_answers_of_other_settings_than_those_typed_now_is_not_written(
    server: FakeLabelStudio, write: Any, typed: Any
) -> None:
    """Its promise is of the scores it was found on. An audit changes no answer."""
    add_backend(server, extra_params=typed)
    options = options_of(TYPED)

    with pytest.raises(UsageError, match="were changed since the answers were made"):
        write(server, quality(80, 0), options=options)
    assert server.changes == []

    server.backends[1]["extra_params"] = {**TYPED, "audit_share": 0.1, "no such key": 1}
    write(server, quality(80, 0), options=options)


@pytest.mark.parametrize("backends", [[], ["", ""], ["prelabel", "prelabel"]])
def test_where_it_is_not_clear_which_backend_is_ours_it_is_not_guessed(
    server: FakeLabelStudio, backends: list[str]
) -> None:
    for description in backends:
        add_backend(server, description=description)

    with pytest.raises(UsageError, match="prelabel connect --project 1"):
        apply(server, quality(80, 0))
    assert server.changes == []


def test_among_others_ours_is_known_by_its_description(server: FakeLabelStudio) -> None:
    other, ours = add_backend(server, description=""), add_backend(server)

    apply(server, quality(80, 0))

    assert "review_thresholds" in ours["extra_params"]
    assert other["extra_params"] == TYPED
