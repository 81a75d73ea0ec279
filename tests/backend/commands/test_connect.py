"""What `prelabel connect` changes in Label Studio, and that running it again changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from label_config.ready_made import ready_made
from tests.backend.commands.connecting import run
from tests.backend.fake_label_studio import LEGACY_KEY, PERSONAL_KEY, FakeLabelStudio, healthy

# label-studio-sdk 2.1.2 exchanges a personal access token through a deprecated method of pydantic
pytestmark = pytest.mark.filterwarnings("ignore:The `parse_obj` method")


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
