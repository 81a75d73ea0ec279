"""What `prelabel connect` refuses of its options and of label configs, before it changes anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backend.errors import ConfigRefused, LabelStudioError, SettingsError
from label_config.ready_made import ready_made
from tests.backend.commands.connecting import ONLY_BOXES, run
from tests.backend.fake_label_studio import FakeLabelStudio


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


@pytest.mark.parametrize("audit", [-1, 50.5, 100, float("nan")])
def test_more_than_half_of_the_tasks_cannot_be_withheld(server: FakeLabelStudio, audit: float) -> None:
    with pytest.raises(SettingsError, match=r"--audit: .* per cent .* give 0 to 50, such as 5"):
        run(server, audit=audit)
    assert server.projects == {}


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
