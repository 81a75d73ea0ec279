"""The quality page: sentences with their figures, what to do next, charts of the right size, text that stays text."""

from __future__ import annotations

import re
import string
from dataclasses import replace

import pytest

from backend.pages.html import TEMPLATES
from backend.pages.words import Language
from backend.quality.page import Where, render_quality
from backend.quality.page_words import TEXTS, QualityWords
from tests.backend.bulk.report_rig import LANGUAGES, Seen
from tests.backend.quality.given import quality, schema

HOSTILE = "\" onmouseover='alert(1)' x=\"&lt;</title></script></style><img src=//evil.example onerror=alert(2)>\u202e"
SHOWN = "onmouseover='alert(1)' x=\"&lt;</title>"
NEVER = {"script", "form", "iframe", "object", "base", "input"}


def text(page: str) -> str:
    return Seen(page).text


def test_each_figure_is_a_sentence_with_its_interval() -> None:
    said = text(render_quality(quality(57, 3, 40), "zh"))

    assert "抽检 60 张，季节正确 95%，真实值在 86%–99% 之间（95% 的把握）。" in said
    assert "预标注过的 40 张，100% 没有改动（偏高，不是准确率）。" in said
    assert "不看预标注 12 秒（60 张），看预标注 4 秒（40 张）；看预标注时的速度是不看时的 3.0 倍" in said
    assert "7 条没有用上：还没有人标注" in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((40, 1, 0), "more blind, and some may pass unseen"),
        ((60, 0, 0), "In the Data Manager, filter Prediction score of 0.05 or more"),
        ((0, 0, 30), "Have about 200 pictures, chosen by chance, labelled without showing the answers"),
        ((40, 20, 0), "“summer” and “winter” were confused 20 times"),
        ((40, 20, 0), '{"calibration": {"season": '),
    ],
)
def test_it_says_what_to_do_next(given: tuple[int, int, int], said: str) -> None:
    assert said in text(render_quality(quality(*given), "en"))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("given", [(60, 0, 0), (57, 3, 40), (0, 0, 30), (0, 1, 0), (20, 40, 0)])
def test_whatever_is_known_gives_a_page_without_gaps(language: Language, given: tuple[int, int, int]) -> None:
    said = text(render_quality(quality(*given), language))

    assert not re.search(r"\{\w+[:}]|None(?! yet)|nan", said)


@pytest.mark.parametrize(("since", "said"), [(1_796_300_000.0, "2026-12-03"), (0.0, "later-0")])
def test_where_pictures_have_changed_nothing_may_pass_and_it_says_since_when(since: float, said: str) -> None:
    page = text(render_quality(quality(60, 0, num_changed=200, since=since), "zh"))

    assert f"保证自 {said} 起失效：此后的图片与盲检过的不再相似（分数、季节的分布变了）" in page
    assert "重新盲检" in page
    assert "不低于" not in page
    assert "筛选 Prediction score" not in page


def test_a_calibration_that_is_in_force_is_not_asked_for_again() -> None:
    found = quality(40, 20)
    [season] = found.fields
    asked = [said for said in QualityWords("en", {}).todo(found) if "Confidence and share right differ" in said]
    in_force = replace(found, fields=(replace(season, rated_by=season.temperature or 0.0),))

    assert len(asked) == 1
    assert asked[0] not in QualityWords("en", {}).todo(in_force)


def test_the_curve_stays_in_its_square_and_marks_the_threshold() -> None:
    seen = Seen(render_quality(quality(300, 2), "en"))
    paths = {value.split('"')[0] for tag, name, value in seen.attributes if (tag, name) == ("path", "d")}
    places = [float(number) for path in paths for number in re.findall(r"\d+\.?\d*", path)]

    assert places
    assert all(0 <= place <= 100 for place in places)
    assert [value for tag, name, value in seen.attributes if value == "chosen"]


def test_the_worst_is_shown_with_its_picture_and_a_link_to_an_address_only() -> None:
    places = {
        "t060": Where("data:image/jpeg;base64,AA", "https://label.example/tasks/1"),
        "t061": Where(None, "javascript:alert(1)"),
    }
    seen = Seen(render_quality(quality(60, 2), "zh", places.__getitem__))

    assert ("img", "src", "data:image/jpeg;base64,AA") in seen.attributes
    assert [value for tag, name, value in seen.attributes if (tag, name) == ("a", "href") and value[0] != "#"] == [
        "https://label.example/tasks/1"
    ]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("title", ["", HOSTILE])
def test_hostile_texts_are_shown_as_texts(language: Language, title: str) -> None:
    asked = schema("1" + HOSTILE, ("2" + HOSTILE, "3" + HOSTILE), title)
    page = render_quality(quality(40, 20, asked=asked), language, lambda name: Where(None, None), note=HOSTILE)
    seen = Seen(page)

    assert not seen.elements & NEVER
    assert "img" not in seen.elements
    assert not [name for _, name, _ in seen.attributes if name.startswith("on") or name == "style"]
    assert seen.text.count(SHOWN) > 20, "wherever a field or a label is named"
    assert "\u202e" not in page


def test_both_languages_have_the_same_places_in_every_text() -> None:
    def places(said: str) -> set[str | None]:
        return {name for _, name, _, _ in string.Formatter().parse(said) if name}

    assert [key for key, (zh, en) in TEXTS.items() if places(zh) != places(en)] == []


def test_no_text_is_without_a_place_on_the_page() -> None:
    page = (TEMPLATES / "quality.html").read_text(encoding="utf-8")
    assert [key for key in TEXTS if f'words("{key}"' not in page and key != "nothing"] == []
