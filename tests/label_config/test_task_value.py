"""What an object tag shows of a task: as Label Studio 1.23.2 computes it, case by case."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from label_config.errors import UnsupportedConfig
from label_config.parse import parse_label_config
from label_config.task_value import MAX_ITEMS, MAX_NAMES, checked_place, data_showing, described, place_warning, shown

A, B = "https://a.example/1.jpg", "https://a.example/2.jpg"
DATA = {
    "image": A,
    "Image_2": B,
    "item": {"url": A, "all": [{"url": B}], "literal": "inner"},
    "images": [A, B],
    "pages": [{"url": A}, {"url": B}],
    "grid": [[A, B]],
    "item.literal": B,
    "images[7]": B,
    "by_number": {"0": A},
    "id": 7,
    "half": 1.5,
    "whole": 2.0,
    "yes": True,
    "nothing": None,
    "empty": "",
    "none": [],
    "name": "1",
    "host": "a.example",
}

SHOWN = {
    "a key": ("$image", A),
    "capitals and digits": ("$Image_2", B),
    "a key inside": ("$item.url", A),
    "two inside": ("$item.all[0].url", B),
    "an index": ("$images[0]", A),
    "the second": ("$images[1]", B),
    "an index after a dot": ("$images.0", A),
    "a key in an item": ("$pages[1].url", B),
    "a key in an item, dots": ("$pages.1.url", B),
    "an index of an index": ("$grid[0][1]", B),
    "an index of an object": ("$by_number[0]", A),
    "a name in brackets": ("$item[url]", A),
    "a key written whole wins": ("$item.literal", B),
    "an index written whole wins": ("$images[7]", B),
    "a list shows its first": ("$images", A),
    "a text around a key": ("https://a.example/$name", "https://a.example/1"),
    "a text after a key": ("$image?w=800", f"{A}?w=800"),
    "two keys": ("https://$host/$name", "https://a.example/1"),
    "a place in a text": ("https://x/?u=$item.url&x=$images[1]", f"https://x/?u={A}&x={B}"),
    "a number in a text": ("https://x/$id", "https://x/7"),
    "a fraction in a text": ("https://x/$half", "https://x/1.5"),
    "a whole fraction in a text": ("https://x/$whole", "https://x/2"),
    "true in a text": ("https://x/$yes", "https://x/true"),
    "a list in a text": ("https://x/$images", f"https://x/{A},{B}"),
    "no such key": ("$missing", None),
    "no such key inside": ("$item.missing", None),
    "no such index": ("$images[2]", None),
    "a key of a text": ("$image.url", None),
    "a key of nothing": ("$nothing.url", None),
    "an index with a zero before it": ("$images[00]", None),
    "a number": ("$id", None),
    "an object": ("$item", None),
    "null": ("$nothing", None),
    "an empty list": ("$none", None),
    "an object of a list": ("$pages", None),
    "no such key in a text": ("https://x/$missing", None),
    "null in a text": ("https://x/$nothing", None),
    "an object in a text": ("https://x/$item", None),
    "an empty text": ("$empty", ""),
}


@pytest.mark.parametrize(("value", "address"), SHOWN.values(), ids=SHOWN.keys())
def test_the_model_sees_what_the_editor_shows(value: str, address: str | None) -> None:
    assert shown(checked_place(value), DATA) == address


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("$图片", "ASCII letters"), ("$image-url", "ASCII letters"), ("$商品.url", "ASCII letters"),
        ("$image图", "ASCII letters"), ("$item.图", "ASCII letters"), ("", "task data key"), ("a.png", "task data key"),
        ("https://x/a.png", "task data key"), ("$", "task data key"), ("${image}", "braces"),
        ("$images[{{idx}}].url", "braces"), ("$a..b", "is empty"), ("$.a", "is empty"), ("$a.", "is empty"),
        ("$a[]", "is empty"), ("$a[0", "is empty"), ("https://x/$name.jpg", 'takes ".jpg" for a key inside "name"'),
    ],
)  # fmt: skip
def test_a_value_that_shows_no_picture_is_refused_with_what_to_write(value: str, told: str) -> None:
    with pytest.raises(UnsupportedConfig) as caught:
        checked_place(value)
    assert told in str(caught.value)


def test_a_text_takes_few_keys() -> None:
    assert checked_place("/".join(["$a"] * MAX_NAMES)) == "/".join(["$a"] * MAX_NAMES)
    with pytest.raises(UnsupportedConfig, match="takes 11 keys of the task"):
        checked_place("/".join(["$a"] * (MAX_NAMES + 1)))


def test_a_text_does_not_multiply_the_data() -> None:
    picture, deep = "x" * 5_000_000, json.loads("[" * 900 + "]" * 900)
    assert shown("data:$kind;base64,$picture", {"kind": "image/png", "picture": picture}) is not None
    assert shown("$picture$picture", {"picture": picture}) is None
    assert shown("$all$all[0]$all.0", {"all": [picture]}) is None
    assert shown("https://x/$deep", {"deep": deep}) == "https://x/"


class Counted(list[Any]):
    """A list that counts the items that are looked at."""

    num_seen = 0

    def __iter__(self) -> Iterator[Any]:
        for item in super().__iter__():
            Counted.num_seen += 1
            yield item


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(Counted([1] * 100_000), id="one list"),
        pytest.param(Counted([Counted([1] * 300) for _ in range(300)]), id="lists in a list"),
        pytest.param(Counted([Counted([Counted([""])] * 100_000)]), id="a list in lists"),
        pytest.param(Counted([None] * MAX_ITEMS + [Counted([1])]), id="the last item"),
        pytest.param(Counted([1] * (MAX_ITEMS // MAX_NAMES + 1)), id="one list again and again"),
    ],
)
def test_a_text_looks_at_few_items_of_lists(data: Counted) -> None:
    Counted.num_seen = 0
    assert shown(checked_place("$a/" * MAX_NAMES), {"a": data}) is None
    assert Counted.num_seen <= MAX_ITEMS + 1
    assert shown("$a/$b", {"a": [1, [2, None]], "b": [3] * (MAX_ITEMS - 4)}) is not None


@pytest.mark.parametrize(
    ("value", "data"),
    [
        pytest.param("$a-" * MAX_NAMES, {"a": "q"}, id="many names of a short text"),
        pytest.param("$a-" * MAX_NAMES, {"a": [0] * 99}, id="many names of a long list"),
        pytest.param("$a-$a[0]-$a.0-" * 3, {"a": [0] * (MAX_ITEMS // 4)}, id="many names of a short list"),
        pytest.param("$a-" * MAX_NAMES, {"a": [[[[[[[[""]]]]]]]]}, id="many names of a list in lists"),
        pytest.param("$a-" * MAX_NAMES, {"a": 1e308}, id="many names of a large fraction"),
        pytest.param("$a-" * MAX_NAMES, {"a": 10**4_000}, id="many names of a large number"),
        pytest.param("$" + "a." * 240 + "a", {"a": "q"}, id="a long way down"),
        pytest.param("$a.a.a.a.a.a.a.a.a.a-" * MAX_NAMES, {"a": {"a": {"a": {}}}}, id="ways down that end early"),
    ],
)
def test_a_task_costs_little_however_the_value_is_written(value: str, data: dict[str, Any]) -> None:
    place, calls = checked_place(value), 0

    def count(frame: FrameType, event: str, arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    shown(place, data)  # what is read once for all tasks is not counted
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        shown(place, data)
    finally:
        sys.setprofile(before)
    assert calls < 300


@pytest.mark.parametrize(("number", "written"), [(1e20, "1" + "0" * 20), (-(10**20), "-1" + "0" * 20), (1e21, None)])
def test_a_number_stands_in_a_text_as_javascript_writes_it_or_not_at_all(number: float, written: str | None) -> None:
    assert shown("$a!", {"a": number}) == (None if written is None else f"{written}!")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("$image", ""), ("$item.url", ""), ("$images[0]", ""), ("https://x/$name", ""),
        ("$images.0", 'write value="$images[0]"'), ("$pages.0.url", 'write value="$pages[0].url"'),
        ("$image?w=800", 'only tasks that have a key "image?w=800"'),
    ],
)  # fmt: skip
def test_what_label_studio_shows_but_does_not_import_is_told(value: str, told: str) -> None:
    warning = place_warning(checked_place(value))
    assert told in warning
    assert bool(warning) is bool(told)


@pytest.mark.parametrize("value", ["$image", "$item.url", "$images[0]", "$images.1", "$pages[2].url", "$a[0][1].b"])
def test_task_data_made_for_a_value_shows_the_picture(value: str) -> None:
    place = checked_place(value)
    assert shown(place, data_showing(place, A)) == A
    assert described(place) == value


def test_task_data_for_a_text_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="name"):
        data_showing(checked_place("https://x/$name"), A)


def test_the_config_keeps_the_place_and_warns_and_the_attribute_may_be_written_in_capitals() -> None:
    def schema(attribute: str) -> tuple[str, int]:
        found = parse_label_config(f'<View><Image name="i" {attribute}/><Rating name="r" toName="i"/></View>')
        return found.image_key, len(found.warnings)

    assert schema('value="$image"') == ("image", 0)
    assert schema('Value=" $item.url "') == ("item.url", 0)
    assert schema('value="https://x/$id"') == ("https://x/$id", 0)
    assert schema('value="$images.0"') == ("images.0", 1)
