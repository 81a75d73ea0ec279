"""The tabs that `prelabel connect` makes, and what *Label All Tasks* goes by."""

from __future__ import annotations

from typing import Any

import pytest

from backend.label_studio.tabs import DOUBT_TAB
from label_config.ready_made import ready_made
from tests.backend.commands.connecting import run
from tests.backend.fake_label_studio import FakeLabelStudio


def titles(server: FakeLabelStudio) -> list[str]:
    return [view["data"]["title"] for view in server.views.values()]


def doubt_tab(server: FakeLabelStudio) -> dict[str, Any]:
    [data] = [view["data"] for view in server.views.values() if view["data"]["title"] == DOUBT_TAB]
    return data


def test_the_tabs_of_a_project_without_pictures_can_all_be_opened(server: FakeLabelStudio) -> None:
    run(server)
    assert titles(server) == ["Default", "需人工复核", DOUBT_TAB]
    assert doubt_tab(server)["ordering"] == [], "Label Studio answers 500 for one that is sorted by score"
    assert "tasks:predictions_score" not in doubt_tab(server)["hiddenColumns"]["explore"]


def test_the_tab_of_doubtful_tasks_is_sorted_once_there_are_pictures(server: FakeLabelStudio) -> None:
    run(server)
    server.projects[1]["task_number"] = 8
    run(server)
    assert doubt_tab(server)["ordering"] == ["tasks:predictions_score"]
    assert titles(server) == ["Default", "需人工复核", DOUBT_TAB]


@pytest.mark.parametrize("num_tasks", [0, 8], ids=["emptied", "with pictures"])
def test_the_only_tab_of_an_earlier_version_is_put_right(server: FakeLabelStudio, num_tasks: int) -> None:
    number = server.add_project("Old", ready_made("garments.zh"))
    server.projects[number]["task_number"] = num_tasks
    server.views[1] = {"id": 1, "data": {"title": DOUBT_TAB, "ordering": ["tasks:predictions_score"]}}
    run(server, create=None, project=number)
    assert titles(server)[0] == "Default"
    assert sorted(titles(server)[1:]) == sorted(["需人工复核", DOUBT_TAB])
    assert bool(doubt_tab(server).get("ordering")) is bool(num_tasks)


def test_tabs_of_peoples_own_stay_as_they_are_and_in_front(server: FakeLabelStudio) -> None:
    number = server.add_project("Mine", ready_made("garments.en"))
    server.views[7] = {"id": 7, "data": {"title": "夜班", "ordering": ["-tasks:id"]}}
    run(server, create=None, project=number)
    assert titles(server) == ["夜班", "Needs review", DOUBT_TAB]
    assert server.views[7]["data"] == {"title": "夜班", "ordering": ["-tasks:id"]}


def test_a_renamed_tab_of_what_needs_review_is_known_by_its_filter(server: FakeLabelStudio) -> None:
    run(server)
    [view] = [view for view in server.views.values() if view["data"]["title"] == "需人工复核"]
    view["data"]["title"] = "复核队列"
    run(server)
    assert titles(server) == ["Default", "复核队列", DOUBT_TAB]


def test_a_tab_of_what_needs_review_whose_filters_were_cleared_gets_them_back(server: FakeLabelStudio) -> None:
    run(server)
    [view] = [view for view in server.views.values() if view["data"]["title"] == "需人工复核"]
    before = view["data"]["filters"]
    view["data"] = {**view["data"], "filters": {"conjunction": "and", "items": []}}
    run(server)
    assert titles(server) == ["Default", "需人工复核", DOUBT_TAB]
    assert view["data"]["filters"] == before


def test_a_tab_of_that_name_with_other_filters_is_somebodys_own(server: FakeLabelStudio) -> None:
    run(server)
    [view] = [view for view in server.views.values() if view["data"]["title"] == "需人工复核"]
    own = {"conjunction": "and", "items": [{"filter": "filter:tasks:id", "operator": "less", "value": 9}]}
    view["data"] = {**view["data"], "filters": own}
    run(server)
    assert titles(server).count("需人工复核") == 2
    assert view["data"]["filters"] == own


def test_a_label_config_without_a_flag_gets_no_tab_for_it(server: FakeLabelStudio) -> None:
    number = server.add_project("Mine", '<View><Image name="i" value="$i"/><TextArea name="t" toName="i"/></View>')
    run(server, create=None, project=number)
    assert titles(server) == ["Default", DOUBT_TAB]


@pytest.mark.parametrize(
    ("chosen", "then", "says"),
    [
        ("Sequential sampling", "Uncertainty sampling", "“Label All Tasks” brings the least certain task first"),
        ("Uncertainty sampling", "Uncertainty sampling", "“Label All Tasks” brings the least certain task first"),
        (
            "Uniform sampling",
            "Uniform sampling",
            "choose “Sequential sampling” in its settings and run this command again",
        ),
    ],
)
def test_label_all_tasks_goes_by_doubt_unless_someone_chose_another_way(
    server: FakeLabelStudio, capsys: pytest.CaptureFixture[str], chosen: str, then: str, says: str
) -> None:
    number = server.add_project("Mine", ready_made("garments.zh"))
    server.projects[number]["sampling"] = chosen
    run(server, create=None, project=number)
    assert server.projects[number]["sampling"] == then
    assert says in capsys.readouterr().out
