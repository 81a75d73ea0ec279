"""What `prelabel connect` changes in Label Studio, and that running it again changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.commands.connect import connect
from backend.errors import ConfigRefused, LabelStudioError, SettingsError
from backend.label_studio.tabs import DOUBT_TAB
from label_config.ready_made import ready_made
from tests.backend.fake_label_studio import LEGACY_KEY, PERSONAL_KEY, FakeLabelStudio, fake_label_studio, healthy

ONLY_BOXES = (
    '<View><Image name="i" value="$i"/><RectangleLabels name="b" toName="i"><Label value="x"/></RectangleLabels></View>'
)


# label-studio-sdk 2.1.2 exchanges a personal access token through a deprecated method of pydantic
pytestmark = pytest.mark.filterwarnings("ignore:The `parse_obj` method")


@pytest.fixture
def server() -> Iterator[FakeLabelStudio]:
    with fake_label_studio() as fake:
        yield fake


def run(server: FakeLabelStudio, **changes: Any) -> int:
    options: dict[str, Any] = {
        "label_studio": server.url,
        "api_key": LEGACY_KEY,
        "project": None,
        "create": "Shoes",
        "backend_url": server.url,
    }
    return connect(**options | changes)


@pytest.mark.parametrize("api_key", [LEGACY_KEY, PERSONAL_KEY], ids=["legacy token", "personal access token"])
def test_a_created_project_gets_config_backend_and_prelabelling(server: FakeLabelStudio, api_key: str) -> None:
    assert run(server, api_key=api_key, label_config="ecommerce.en") == 0
    [project] = server.projects.values()
    assert project["label_config"] == ready_made("ecommerce.en")
    assert project["show_collab_predictions"] is True
    [backend] = server.backends.values()
    assert backend["url"] == server.url
    # Label Studio pre-fills where the project's model version is the backend's title, and shows the scores of
    # predictions whose model version it is.
    assert project["model_version"] == backend["title"] == backend["model_version"] == "m-1"


def test_running_it_twice_leaves_one_project_one_backend_and_one_webhook(server: FakeLabelStudio) -> None:
    assert [run(server), run(server), run(server, create=None, project=1)] == [0, 0, 0]
    assert (len(server.projects), len(server.backends), len(server.webhooks), len(server.views)) == (1, 1, 1, 3)


def test_a_new_model_version_becomes_the_title_at_the_next_run(server: FakeLabelStudio) -> None:
    run(server)
    server.model_version = "m-2"
    run(server)
    assert [b["title"] for b in server.backends.values()] == ["m-2"]
    assert server.projects[1]["model_version"] == "m-2"


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


@pytest.mark.parametrize(
    ("model", "config"),
    [("garments", "garments.zh"), ("Qwen3-VL-30B-A3B-Instruct", "ecommerce.zh"), ("my-shop", "ecommerce.zh")],
)
def test_a_new_project_gets_the_label_config_that_goes_with_the_model(
    server: FakeLabelStudio, capsys: pytest.CaptureFixture[str], model: str, config: str
) -> None:
    server.health = healthy(model)
    run(server)
    assert server.projects[1]["label_config"] == ready_made(config)
    assert f"label config {config} that goes with {model}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("model", "config", "told"),
    [
        ("garments", "ecommerce.zh", True),
        ("garments", "garments.en", False),
        ("Qwen3-VL-30B-A3B-Instruct", "ecommerce.zh", False),
    ],
)
def test_labels_that_the_built_in_model_does_not_know_are_told(
    server: FakeLabelStudio, capsys: pytest.CaptureFixture[str], model: str, config: str, told: bool
) -> None:
    server.health = healthy(model)
    assert run(server, label_config=config) == 0
    assert ("knows ten kinds of garment and nothing else" in capsys.readouterr().out) is told


def test_what_does_not_work_at_the_backend_is_told(server: FakeLabelStudio, capsys: pytest.CaptureFixture[str]) -> None:
    server.health = (200, {**healthy("garments")[1], "problems": ["token_refused"]})
    assert run(server) == 0
    assert "something does not work (token_refused): `prelabel status`" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ({"review_threshold": 0.7, "language": "zh"}, {"review_threshold": 0.7, "language": "en"}),
        ('{"review_threshold": 0.7}', {"review_threshold": 0.7, "language": "en"}),
        ("no JSON", {"language": "en"}),
        (None, {"language": "en"}),
    ],
    ids=["an object", "its text", "no JSON", "nothing"],
)
def test_an_english_config_changes_the_language_and_no_other_extra_param(
    server: FakeLabelStudio, typed: object, kept: dict[str, object]
) -> None:
    run(server)
    [backend] = server.backends.values()
    backend["extra_params"] = typed
    run(server)
    assert server.backends[backend["id"]]["extra_params"] == typed
    run(server, label_config="ecommerce.en")
    assert server.backends[backend["id"]]["extra_params"] == kept


def test_a_label_config_without_a_label_that_people_used_is_refused_by_name_and_changes_nothing(
    server: FakeLabelStudio,
) -> None:
    number = server.add_project("Mine", ready_made("garments.zh"))
    said = (
        "These labels still exist in annotations or drafts:\n连衣裙 (3 annotations)\nPlease add labels to tag with "
        'name="category".'
    )
    body = {"detail": "Validation error", "validation_errors": {"non_field_errors": [said]}}
    server.refusals[("POST", "/api/projects/1/validate")] = (400, body)
    with pytest.raises(LabelStudioError, match=r"the field category has the labels 连衣裙 \(3 annotations\)"):
        run(server, create=None, project=number, label_config="ecommerce.zh")
    assert server.changes == [("POST", "/api/projects/1/validate")]
    assert server.projects[1]["label_config"] == ready_made("garments.zh")


@pytest.mark.parametrize(
    ("config", "num", "told"),
    [("ecommerce.zh", 12, True), ("ecommerce.zh", 0, False), ("other layout", 12, False)],
    ids=["other fields", "nothing predicted yet", "another layout"],
)
def test_predictions_that_may_not_fit_a_changed_label_config_are_told(
    server: FakeLabelStudio, capsys: pytest.CaptureFixture[str], tmp_path: Path, config: str, num: int, told: bool
) -> None:
    server.projects[server.add_project("Mine", ready_made("garments.zh"))]["total_predictions_number"] = num
    if config == "other layout":
        (tmp_path / "config.xml").write_text(ready_made("garments.zh").replace("<Header", "\n\n<Header", 1), "utf-8")
        config = str(tmp_path / "config.xml")
    assert run(server, create=None, project=1, label_config=config) == 0
    printed = capsys.readouterr().out
    assert "label config replaced" in printed
    assert (f"The {num} predictions in this project were made for the label config before" in printed) is told


@pytest.mark.parametrize(
    ("typed", "audit", "then", "sampling", "says"),
    [
        (None, 5, {"audit_share": 0.05}, "Sequential sampling", "Blind audit: 5% of the tasks"),
        ({"top_p": 0.5}, 2.5, {"top_p": 0.5, "audit_share": 0.025}, "Sequential sampling", "Blind audit: 2.5% of the"),
        ({"audit_share": 0.1}, None, {"audit_share": 0.1}, "Sequential sampling", "has had an answer to do not"),
        ({"audit_share": 0.1}, 0, {"audit_share": 0}, "Uncertainty sampling", "No blind audit"),
        (None, 0, None, "Uncertainty sampling", "No blind audit"),
        (None, None, None, "Uncertainty sampling", "brings the least certain task first"),
    ],
)
def test_the_blind_audit_is_asked_for_in_per_cent_and_its_tasks_come_along_with_the_others(
    server: FakeLabelStudio,
    capsys: pytest.CaptureFixture[str],
    typed: object,
    audit: float | None,
    then: object,
    sampling: str,
    says: str,
) -> None:
    run(server)
    [backend] = server.backends.values()
    backend["extra_params"] = typed
    capsys.readouterr()
    run(server, create=None, project=1, audit=audit)
    assert backend["extra_params"] == then
    assert server.projects[1]["sampling"] == sampling
    assert says in capsys.readouterr().out


@pytest.mark.parametrize("audit", [-1, 50.5, 100, float("nan")])
def test_more_than_half_of_the_tasks_cannot_be_withheld(server: FakeLabelStudio, audit: float) -> None:
    with pytest.raises(SettingsError, match=r"--audit: .* per cent .* give 0 to 50, such as 5"):
        run(server, audit=audit)
    assert server.projects == {}


ENGLISH = '<View><Image name="i" value="$i"/><Choices name="c" toName="i"><Choice value="Red"/></Choices></View>'
CHINESE = ENGLISH.replace("Red", "红色")
BARE = '<View><Image name="i" value="$i"/><TextArea name="caption" toName="i"/></View>'


@pytest.mark.parametrize(
    ("config", "backends", "typed", "then", "says"),
    [
        (ENGLISH, "zh", None, {"language": "en"}, "Captions in English, as the labels are"),
        (ENGLISH, "zh", {"language": "zh"}, {"language": "zh"}, "Captions in Chinese, says the project, although the"),
        (CHINESE, "zh", None, None, "Captions in Chinese, as the labels are"),
        (CHINESE, "en", None, None, "Captions in English, says the backend's PRELABEL_LANGUAGE, although the labels"),
        (BARE, "en", None, None, "Captions in English, says the backend's PRELABEL_LANGUAGE;"),
    ],
    ids=["English", "English, Chinese wanted", "Chinese", "Chinese, English backend", "nothing to read"],
)
def test_captions_are_in_the_language_of_the_labels_and_it_is_said_which(
    server: FakeLabelStudio,
    capsys: pytest.CaptureFixture[str],
    config: str,
    backends: str,
    typed: object,
    then: object,
    says: str,
) -> None:
    number = server.add_project("Mine", config)
    server.health = healthy("m", backends)
    server.backends[1] = {"id": 1, "url": server.url, "title": "m-1", "description": "prelabel", "extra_params": typed}
    run(server, create=None, project=number)
    assert server.backends[1]["extra_params"] == then
    printed = " ".join(capsys.readouterr().out.split())
    assert says in printed
    assert "extra params changes it" in printed


def test_a_backend_that_moved_replaces_the_one_at_its_old_address(server: FakeLabelStudio) -> None:
    run(server)
    run(server, backend_url=server.url.replace("127.0.0.1", "localhost") + "/")
    assert [b["url"] for b in server.backends.values()] == [server.url.replace("127.0.0.1", "localhost")]


@pytest.mark.parametrize("typed", [{"audit_share": 0.1, "top_p": 0.5}, '{"audit_share": 0.1, "top_p": 0.5}'])
def test_a_backend_that_moved_keeps_what_people_typed(server: FakeLabelStudio, typed: object) -> None:
    run(server)
    [backend] = server.backends.values()
    backend["extra_params"] = typed
    run(server, backend_url=server.url.replace("127.0.0.1", "localhost"))
    [moved] = server.backends.values()
    assert moved["id"] != backend["id"]
    assert moved["extra_params"] == {"audit_share": 0.1, "top_p": 0.5}
    assert server.projects[1]["sampling"] == "Sequential sampling", "its blind audit goes on"


def test_the_backend_of_another_program_is_left_alone(server: FakeLabelStudio) -> None:
    server.backends[1] = {"id": 1, "url": "http://other:9090", "title": "detector", "project": 1}
    run(server)
    assert [b["title"] for b in server.backends.values()] == ["detector", "m-1"]


def test_a_webhook_that_is_missing_is_made(server: FakeLabelStudio) -> None:
    run(server)
    server.webhooks.clear()
    run(server)
    assert [w["url"] for w in server.webhooks.values()] == [f"{server.url}/webhook"]


def test_the_password_of_the_backend_reaches_label_studio_and_no_output(
    server: FakeLabelStudio, capsys: pytest.CaptureFixture[str]
) -> None:
    run(server, backend_user="me", backend_password="geheim-123")
    [backend] = server.backends.values()
    assert (backend["auth_method"], backend["basic_auth_user"]) == ("BASIC_AUTH", "me")
    assert backend["basic_auth_pass"] == "geheim-123"
    [webhook] = server.webhooks.values()
    assert webhook["headers"] == {}, "Label Studio shows a webhook's headers to everyone"
    assert "geheim-123" not in capsys.readouterr().out


def test_a_password_taken_away_is_taken_from_label_studio(server: FakeLabelStudio) -> None:
    run(server, backend_password="geheim-123")
    run(server)
    assert [b["auth_method"] for b in server.backends.values()] == ["NONE"]
    assert [w["headers"] for w in server.webhooks.values()] == [{}]


def test_the_label_config_of_an_existing_project_is_kept_unless_another_is_given(server: FakeLabelStudio) -> None:
    mine = '<View><Image name="i" value="$i"/><TextArea name="t" toName="i"/></View>'
    number = server.add_project("Mine", mine)
    run(server, create=None, project=number)
    assert server.projects[number]["label_config"] == mine
    run(server, create=None, project=number, label_config="garments.en")
    assert server.projects[number]["label_config"] == ready_made("garments.en")


def test_a_label_config_is_read_from_a_file(server: FakeLabelStudio, tmp_path: Path) -> None:
    file = tmp_path / "my.xml"
    file.write_text('\ufeff<View><Image name="i" value="$i"/><TextArea name="描述" toName="i"/></View>', "utf-8")
    assert run(server, label_config=str(file)) == 0
    assert server.projects[1]["label_config"].startswith("<View>")


def test_controls_that_are_left_out_are_named(server: FakeLabelStudio, capsys: pytest.CaptureFixture[str]) -> None:
    number = server.add_project("Both", ONLY_BOXES.replace("</View>", '<TextArea name="t" toName="i"/></View>'))
    run(server, create=None, project=number)
    printed = capsys.readouterr().out
    assert "pre-filled: t" in printed
    assert "left out:" in printed
    assert "RectangleLabels" in printed


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("<View></View>", "no labeling interface"),
        ("<View", "cannot be pre-filled"),
        (ONLY_BOXES, "cannot be pre-filled"),
    ],
    ids=["empty", "broken", "only controls that no model of ours fills"],
)
def test_a_project_with_nothing_to_fill_is_refused_before_anything_changes(
    server: FakeLabelStudio, config: str, says: str
) -> None:
    number = server.add_project("Boxes", config)
    with pytest.raises(ConfigRefused, match=says):
        run(server, create=None, project=number)
    assert server.changes == []


def test_a_given_label_config_with_nothing_to_fill_is_refused_before_label_studio_is_asked(
    server: FakeLabelStudio, tmp_path: Path
) -> None:
    file = tmp_path / "boxes.xml"
    file.write_text(ONLY_BOXES, "utf-8")
    with pytest.raises(ConfigRefused, match="cannot be pre-filled"):
        run(server, label_config=str(file))
    assert server.calls == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"create": None}, "--project NUMBER"),
        ({"project": 1}, "--create TITLE"),
        ({"backend_url": "localhost:9090"}, "--backend-url"),
        ({"backend_url": "http://me:pw@127.0.0.1:9090"}, "BASIC_AUTH_PASS"),
    ],
    ids=["no project", "two projects", "address without scheme", "password in the address"],
)
def test_contradictory_options_are_refused(server: FakeLabelStudio, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        run(server, **changes)
    assert server.calls == []


@pytest.mark.parametrize(
    ("name", "says"),
    [("nothing.xml", "cannot be read"), ("latin.xml", "not UTF-8"), ("large.xml", "larger than 256 KiB")],
    ids=["missing", "not UTF-8", "too large"],
)
def test_a_label_config_file_that_cannot_be_read_is_named(
    server: FakeLabelStudio, tmp_path: Path, name: str, says: str
) -> None:
    (tmp_path / "latin.xml").write_bytes(b"<View>\xe9</View>")
    (tmp_path / "large.xml").write_bytes(b" " * (256 * 1024 + 1))
    with pytest.raises(ConfigRefused, match=says):
        run(server, label_config=str(tmp_path / name))


@pytest.mark.parametrize("title", ["", "衣", "衣服", " 衣服 ", "A", "鞋" * 51], ids=repr)
def test_a_title_that_label_studio_refuses_is_named_with_the_rule_before_label_studio_is_asked(
    server: FakeLabelStudio, title: str
) -> None:
    with pytest.raises(SettingsError, match=f"3 to 50 characters .*“{title.strip()}” has {len(title.strip())}"):
        run(server, create=title)
    assert server.calls == []


@pytest.mark.parametrize("title", ["衣服图", "鞋" * 50, " 衣服图 "], ids=["3 characters", "50 characters", "blanks"])
def test_a_title_that_label_studio_takes_is_taken(server: FakeLabelStudio, title: str) -> None:
    assert [run(server, create=title), run(server, create=title)] == [0, 0]
    assert [p["title"] for p in server.projects.values()] == [title.strip()]


@pytest.mark.parametrize(
    ("public_url", "shown"),
    [
        ("http://localhost:8080", "http://localhost:8080"),
        ("https://shop.example/labels/", "https://shop.example/labels"),
        ("https://me:geheim@shop.example", "https://shop.example"),
    ],
    ids=["another port", "below a path", "with a password"],
)
def test_links_are_those_of_peoples_browsers(
    server: FakeLabelStudio, capsys: pytest.CaptureFixture[str], public_url: str, shown: str
) -> None:
    run(server, public_url=public_url)
    said = capsys.readouterr().out
    assert f"Label Studio at {shown} (from here {server.url}), as " in said
    assert f"open {shown}/projects/1/data and" in said
    assert "geheim" not in said


def test_without_a_public_address_links_are_those_that_connect_uses(
    server: FakeLabelStudio, capsys: pytest.CaptureFixture[str]
) -> None:
    run(server)
    said = capsys.readouterr().out
    assert f"Label Studio at {server.url}, as " in said
    assert f"open {server.url}/projects/1/data and" in said


def test_a_form_that_misleads_annotators_is_named(
    server: FakeLabelStudio, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "my.xml"
    tree = '<Taxonomy name="kind" toName="i" maxUsages="1"><Choice value="a"/></Taxonomy>'
    file.write_text(f'<View><Image name="i" value="$i"/>{tree}</View>', encoding="utf-8")
    assert run(server, label_config=str(file)) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  form: ")]
    assert '<Taxonomy name="kind"> has maxUsages="1"' in line
    assert 'layout="select" pathSeparator=' in line
