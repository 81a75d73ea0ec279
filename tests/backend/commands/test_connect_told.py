"""What `prelabel connect` says of what it found: labels, languages, links, forms."""

from __future__ import annotations

from pathlib import Path

import pytest

from label_config.ready_made import ready_made
from tests.backend.commands.connecting import ONLY_BOXES, run
from tests.backend.fake_label_studio import FakeLabelStudio, healthy

ENGLISH = '<View><Image name="i" value="$i"/><Choices name="c" toName="i"><Choice value="Red"/></Choices></View>'


CHINESE = ENGLISH.replace("Red", "红色")


BARE = '<View><Image name="i" value="$i"/><TextArea name="caption" toName="i"/></View>'


GARMENTS = ready_made("garments.en")


@pytest.mark.parametrize(
    ("model", "config", "told"),
    [
        ("garments", ready_made("ecommerce.zh"), ""),
        ("garments", GARMENTS, None),
        ("garments", GARMENTS.replace('<Choice value="Casual"/>', ""), None),
        ("garments", GARMENTS.replace('name="style"', 'name="look"').replace('value="Style"', 'value="Look"'), None),
        ("garments", GARMENTS.replace('"Casual"/>', '"Casual"/><Choice value="Punk"/>'), "Punk: "),
        (
            "garments",
            GARMENTS.replace(
                '<Header value="Style"',
                '<Header value="Stars"/><Rating name="stars" toName="image"/><Header value="Style"',
            ),
            "Stars: ",
        ),
        ("garments", ENGLISH.replace("Red", "[red]"), "[red]: "),
        ("Qwen3-VL-30B-A3B-Instruct", ready_made("ecommerce.zh"), None),
    ],
    ids=["others", "its own", "one less", "another name", "one more", "a field more", "one other", "another model"],
)
def test_labels_that_the_built_in_model_does_not_know_are_told(
    server: FakeLabelStudio,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    model: str,
    config: str,
    told: str | None,
) -> None:
    server.health = healthy(model)
    (tmp_path / "config.xml").write_text(config, "utf-8")
    assert run(server, label_config=str(tmp_path / "config.xml")) == 0
    printed = capsys.readouterr().out
    assert (f"It was not trained on {told}" in printed) is (told is not None)
    assert ("knows ten kinds of garment and nothing else" in printed) is (told is not None)


def test_what_does_not_work_at_the_backend_is_told(server: FakeLabelStudio, capsys: pytest.CaptureFixture[str]) -> None:
    server.health = (200, {**healthy("garments")[1], "problems": ["token_refused"]})
    assert run(server) == 0
    assert "something does not work (token_refused): `prelabel status`" in capsys.readouterr().out


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
    assert (f"{num} predictions in this project are of the label config before" in printed) is told


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


def test_controls_that_are_left_out_are_named(server: FakeLabelStudio, capsys: pytest.CaptureFixture[str]) -> None:
    number = server.add_project("Both", ONLY_BOXES.replace("</View>", '<TextArea name="t" toName="i"/></View>'))
    run(server, create=None, project=number)
    printed = capsys.readouterr().out
    assert "pre-filled: t" in printed
    assert "left out:" in printed
    assert "RectangleLabels" in printed


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


OBEYED = "\x1b]0;mine\x07\x1b[2J\x9b31m\u202e"
"""What a terminal would obey: a new title, an empty screen, a colour in one character, letters from right to left."""
OBEYED_IN_XML = "&#x9b;31m\u202e"
HOSTILE = {
    "the title": (OBEYED, ENGLISH),
    "a field": ("Shoes", ENGLISH.replace('"c"', f'"c{OBEYED_IN_XML}"')),
    "a label": ("Shoes", ENGLISH.replace("Red", f"Red{OBEYED_IN_XML}")),
    "a field that is left out": ("Shoes", ONLY_BOXES.replace('"b"', f'"b{OBEYED_IN_XML}"').replace("</View>", "")
                                 + ENGLISH.removeprefix('<View><Image name="i" value="$i"/>')),
}  # fmt: skip


@pytest.mark.parametrize(("title", "config"), HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("model", ["garments", "another"])
def test_nothing_of_a_project_is_obeyed_by_the_terminal(
    server: FakeLabelStudio, capsys: pytest.CaptureFixture[str], title: str, config: str, model: str
) -> None:
    server.health = healthy(model)
    server.add_project(title, config)
    assert run(server, create=None, project=1) == 0
    told = "".join(capsys.readouterr())
    assert "Data Manager tab" in told
    assert not set(OBEYED) & set(told) - set("]0;mine[2J31m")
