"""`prelabel annotate`: the table shows every character as it is, and what goes wrong is one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

import backend.commands.annotate
from backend.commands.annotate import annotate
from backend.engine.messages import Finished, GenerateRequest
from backend.errors import ConfigRefused, GenerationFailed
from backend.settings import Settings, load_settings
from label_config.answer import FieldValue
from tests.backend.images.pictures import png
from tests.fakes import FakeEngine

PICTURE = "[red] [x].png"
CONFIG = """<View><Image name="image" value="$image"/>
  <TextArea name="[b]caption" toName="image"/>
  <Choices name="kind" toName="image"><Choice value="[red]"/><Choice value="[/x]"/></Choices></View>"""
ANSWER: Mapping[str, FieldValue] = {
    "[b]caption": "a [/bold] claim [link=x] :smile: and more to be seen",
    "kind": ("[red]",),
}


class SilentEngine(FakeEngine):
    async def generate(self, request: GenerateRequest) -> Finished:
        return Finished(0, (b'{"ki',), (1.0,), "length", 100, 64)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / PICTURE).write_bytes(png())
    (tmp_path / "config.xml").write_text(CONFIG, encoding="utf-8")
    return load_settings({"data_dir": tmp_path})


def _annotate(
    settings: Settings,
    engine: FakeEngine,
    config: str = "config.xml",
    *,
    json_output: bool = False,
    picture: str = PICTURE,
) -> int:
    folder = settings.data_dir
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend.commands.annotate, "build_engine", lambda _: engine)
        patch.setenv("COLUMNS", "200")
        (folder / picture).write_bytes(png())
        return annotate(
            settings, picture=str(folder / picture), label_config=str(folder / config), json_output=json_output
        )


def test_nothing_in_the_table_is_read_as_markup(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert _annotate(settings, FakeEngine(ANSWER)) == 0
    shown = capsys.readouterr().out
    for text in ("[red] [x]  (garments-nf4-", "[b]caption", str(ANSWER["[b]caption"]), "[red]"):
        assert text in shown


def test_a_closing_tag_as_a_label_is_shown(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert _annotate(settings, FakeEngine({**ANSWER, "kind": ("[/x]",)})) == 0
    assert "[/x]" in capsys.readouterr().out


def test_nothing_in_the_table_is_obeyed_by_the_terminal(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    obeyed = "\x1b[2J\x9b31m\u202e"
    assert _annotate(settings, FakeEngine(ANSWER), picture=f"{obeyed}.png") == 0
    shown = capsys.readouterr().out
    assert r"\x1b[2J\x9b31m\u202e  (garments-nf4-" in shown
    assert not set("\x1b\x9b\u202e") & set(shown)


def test_the_record_is_one_line_of_json(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert _annotate(settings, FakeEngine(ANSWER), json_output=True) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["fields"] == {"[b]caption": ANSWER["[b]caption"], "kind": "[red]"}


def test_an_answer_that_cannot_be_read_is_an_error_of_ours(settings: Settings) -> None:
    with pytest.raises(GenerationFailed, match=r"the model's answer cannot be used: .* ends before the first field"):
        _annotate(settings, SilentEngine(ANSWER))


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, r"cannot be read .* one of ecommerce\.en"), ("<View/>", "cannot be pre-filled")],
    ids=["no file", "no controls"],
)
def test_a_config_that_cannot_be_used_is_refused_before_the_engine_starts(
    settings: Settings, content: str | None, message: str
) -> None:
    if content is not None:
        (settings.data_dir / "other.xml").write_text(content, encoding="utf-8")
    engine = FakeEngine(ANSWER, ready=False)
    with pytest.raises(ConfigRefused, match=message):
        _annotate(settings, engine, "other.xml")
    assert engine.requests == []
