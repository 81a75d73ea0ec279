"""Untrusted label configs: refused in time, with a text a person can act on, and without touching the machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from label_config.errors import UnsupportedConfig
from label_config.parse import parse_label_config
from label_config.read_xml import MAX_CONFIG_BYTES
from tests.label_config.configs import CAPTION, view

_watched: list[list[str]] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched and (event in ("open", "os.open") or event.startswith(("socket.", "urllib."))):
        _watched[-1].append(f"{event} {arguments[:1]}")


sys.addaudithook(_audit)


@contextmanager
def opened() -> Iterator[list[str]]:
    """What is opened meanwhile: files and sockets."""
    _watched.append([])
    try:
        yield _watched[-1]
    finally:
        _watched.pop()


def _nested_entities(levels: int, width: int) -> str:
    entities = ['<!ENTITY e0 "ha">'] + [
        f'<!ENTITY e{level} "{f"&e{level - 1};" * width}">' for level in range(1, levels)
    ]
    return f"<!DOCTYPE View [{''.join(entities)}]><View>&e{levels - 1};</View>"


HOSTILE = {
    "billion laughs": _nested_entities(10, 10),
    "quadratic blow-up": f'<!DOCTYPE V [<!ENTITY a "{"x" * 50_000}">]><View>{"&a;" * 10_000}</View>',
    "external entity": '<!DOCTYPE V [<!ENTITY a SYSTEM "file:///etc/hostname">]><View>&a;</View>',
    "external entity over http": '<!DOCTYPE V [<!ENTITY a SYSTEM "http://127.0.0.1:9/a">]><View>&a;</View>',
    "external document type": '<!DOCTYPE View SYSTEM "http://127.0.0.1:9/a.dtd"><View/>',
    "parameter entity": '<!DOCTYPE V [<!ENTITY % a SYSTEM "file:///etc/hostname"> %a;]><View/>',
    "bare document type": "<!DOCTYPE View><View/>",
    "10,000 levels": "<View>" * 10_000 + "</View>" * 10_000,
    "65 levels": "<View>" * 65 + "</View>" * 65,
    "unclosed levels": "<View>" * 60_000,
    "10 MB attribute": f'<View name="{"x" * 10_000_000}"/>',
    "undeclared entity": "<View>&nbsp;</View>",
}


@pytest.mark.parametrize("xml", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_config_is_refused_and_opens_nothing(xml: str) -> None:
    with opened() as events, pytest.raises(UnsupportedConfig):
        parse_label_config(xml)
    assert events == []


def test_the_watch_sees_a_file_being_opened() -> None:
    with opened() as events, open(__file__, encoding="utf-8"):
        pass
    assert len(events) == 1


REFUSED = {
    "None": (None, "must be XML text, not NoneType"),
    "a number": (5, "must be XML text, not int"),
    "a list": ([], "must be XML text, not list"),
    "nothing": ("", "is empty"),
    "white space": (" \n\t", "is empty"),
    "only a byte order mark": (b"\xef\xbb\xbf", "is empty"),
    "two roots": ("<View/><View/>", "not well-formed XML: junk after document element: line 1"),
    "no XML": ("hello", "not well-formed XML"),
    "JSON": ('{"a": 1}', "not well-formed XML"),
    "unclosed tag": ("<View>", "not well-formed XML"),
    "NUL": ("<View>\0</View>", "NUL character"),
    "NUL reference": ("<View>&#0;</View>", "not well-formed XML"),
    "control character": ("<View>\x01</View>", "not well-formed XML"),
    "lone surrogate": ("<View>\ud800</View>", "lone surrogate"),
    "bytes of another encoding": ("<View>中</View>".encode("gbk"), "not UTF-8 (byte 6)"),
    "UTF-16": ("<View/>".encode("utf-16"), "not UTF-8"),
    "string declaring GBK": ('<?xml version="1.0" encoding="gbk"?><View/>', 'declares encoding="gbk"'),
    "bytes declaring Latin-1": (
        b"<?xml version='1.0' encoding='iso-8859-1'?><View/>",
        'declares encoding="iso-8859-1"',
    ),
    "too many bytes": ("<View>" + " " * MAX_CONFIG_BYTES + "</View>", "limit is 1,048,576 bytes (1 MiB)"),
    "too many bytes, not characters": ("<View>" + "中" * (MAX_CONFIG_BYTES // 3) + "</View>", "limit is 1,048,576"),
}


@pytest.mark.parametrize(("xml", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_config_is_refused_with_the_reason(xml: Any, message: str) -> None:
    with pytest.raises(UnsupportedConfig) as refused:
        parse_label_config(xml)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "declaration",
    [
        '<?xml version="1.0"?>',
        '<?xml version="1.0" encoding="UTF-8"?>',
        "<?xml version='1.0' encoding='utf8'?>\n",
        "\ufeff",
    ],
    ids=["no encoding", "UTF-8", "utf8 in single quotes", "byte order mark"],
)
def test_a_declaration_changes_nothing(declaration: str) -> None:
    xml = view('<Header value="描述 é"/>', CAPTION)
    plain = parse_label_config(xml)
    assert parse_label_config(declaration + xml) == plain
    assert parse_label_config((declaration + xml).encode()) == plain
    assert plain.fields[0].title == "描述 é"


def test_comments_instructions_and_cdata_are_passed_over() -> None:
    xml = view("<!-- <Rating name='no' toName='image'/> -->", "<?php no ?>", "<![CDATA[<Rating/>]]>", CAPTION)
    assert [field.name for field in parse_label_config(f"<!-- first -->{xml}<!-- last -->").fields] == ["caption"]
