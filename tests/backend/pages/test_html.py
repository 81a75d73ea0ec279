"""Templates: whatever they are given is escaped, a name nobody gave is an error, and each of them can be read."""

from __future__ import annotations

import re
from typing import get_args

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from backend.pages.html import TEMPLATES, Template, asset, environment

FILES = sorted(path.name for path in TEMPLATES.iterdir())
PAGES = [name for name in FILES if name.endswith(".html")]
HOSTILE = "<img src=x onerror=alert(1)>\"'&"
ESCAPED = "&lt;img src=x onerror=alert(1)&gt;&#34;&#39;&amp;"


def rendered(source: str, **values: object) -> str:
    return environment().from_string(source).render(values)


@pytest.mark.parametrize("name", PAGES)
def test_every_template_compiles(name: str) -> None:
    environment().get_template(name)


def test_every_file_is_a_template_a_style_or_the_script() -> None:
    assert set(get_args(Template)) <= set(PAGES)
    assert {name.rpartition(".")[2] for name in FILES} == {"html", "css", "js"}


@pytest.mark.parametrize("name", PAGES)
def test_no_template_turns_escaping_off(name: str) -> None:
    source = (TEMPLATES / name).read_text("utf-8")
    assert not re.search(r"\bsafe\b|autoescape|Markup|__html__", source)
    unquoted = re.findall(r"\s[\w-]+=\{\{", source)
    assert not unquoted, "a value without quotes around it can begin another attribute"


@pytest.mark.parametrize(
    "source",
    [
        "{{ x }}",
        "{{ x | upper | lower }}",
        '{{ "%s" | format(x) }}',
        '{{ "{}".format(x) }}',
        "{{ [x] | join }}",
        "{% set y %}{{ x }}{% endset %}{{ y }}",
        "{% macro m(y) %}{{ y }}{% endmacro %}{{ m(x) }}",
        "{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}{{ x }}{% endcall %}",
        "{{ x | one_line }}",
    ],
)
def test_what_a_template_is_given_is_escaped(source: str) -> None:
    assert rendered(source, x=HOSTILE) == ESCAPED


def test_a_value_is_never_read_as_a_template() -> None:
    assert rendered("{{ x }}", x="{{ 7 * 7 }}{% raw %}") == "{{ 7 * 7 }}{% raw %}"


def test_a_name_nobody_gave_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        rendered("{{ x }}")
    with pytest.raises(UndefinedError):
        rendered("{% if x.y %}{% endif %}", x={})


@pytest.mark.parametrize(
    ("source", "page"),
    [
        ("<p>\n  {{ x }}\n</p>\n\n<i>a b</i>\n", "<p> v\n </p><i>a b</i>"),
        ("{% if x %}\n  <b>{{ x }}</b> {{ x }}\n{% endif %}\n", "<b> v\n </b>  v\n "),
        ('<a\n  href="{{ x }}"\n  id="a">one\ntwo</a>', '<a\n  href=" v\n "\n  id="a">one\ntwo</a>'),
        ("{{ x }}\n{{ x }}", " v\n  v\n "),
    ],
    ids=["between tags", "between statements", "within a tag and a text", "between values"],
)
def test_only_a_templates_own_line_breaks_are_left_out(source: str, page: str) -> None:
    assert rendered(source, x=" v\n ") == page


@pytest.mark.parametrize("name", [name for name in FILES if name not in PAGES])
def test_style_and_script_cannot_end_the_element_they_stand_in(name: str) -> None:
    text = asset(name)  # type: ignore[arg-type]
    assert isinstance(text, Markup)
    assert "</" not in text
    assert "<!--" not in text
    assert not re.search(r"@import|url\(", text)
