"""Label configs that are written to be slow, of any length: one for each step that ever cost more than its share."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count, islice

from tests.label_config.configs import CAPTION, choices, view

NUM_CONTROLS = 40
_WHEN = 'visibleWhen="choice-selected"'


def _filled(num_chars: int, one: Callable[[int], str]) -> str:
    """one(0), one(1), ... as many as fit."""
    return "".join(islice(map(one, count()), max(1, num_chars // len(one(1000)))))


def _ratings(num: int = NUM_CONTROLS, **attributes: str) -> str:
    more = " ".join(f'{name}="{value}"' for name, value in attributes.items())
    return "".join(f'<Rating name="r{n}" toName="image" {more}/>' for n in range(num))


def _labels(num_chars: int, tag: str, one: Callable[[int], str]) -> str:
    return f'<{tag} name="c" toName="image" maxUsages="20">{_filled(num_chars, one)}</{tag}>'


def _nested(num_chars: int) -> str:
    return "<View>" * 50 + _filled(num_chars, lambda n: f'<Text name="t{n}" value="$title{n}"/>') + "</View>" * 50


def _below(num_chars: int, label: str, one: Callable[[int], str], attributes: str = "") -> str:
    """As `_filled`, all of it below a chain of 50 such labels, which stand in the path of each."""
    chain = f'<Choice value="{label}">' * 50
    return (
        f'<Taxonomy name="c" toName="image" {attributes}>{chain}{_filled(num_chars, one)}{"</Choice>" * 50}</Taxonomy>'
    )


def _each(num_chars: int, one: Callable[[int, str], str]) -> str:
    """NUM_CONTROLS controls, each with its share of whenChoiceValue."""
    values = ",".join(str(n % 10) for n in range(num_chars // NUM_CONTROLS // 2))
    return "".join(one(n, f'{_WHEN} whenChoiceValue="{values}"') for n in range(NUM_CONTROLS))


KINDS: dict[str, Callable[[int], str]] = {
    "labels": lambda size: view(_labels(size, "Choices", lambda n: f'<Choice value="{n}" alias="a{n}" hint="h"/>')),
    "labels that begin alike": lambda size: view(
        _labels(size, "Choices", lambda n: f'<Choice value="{"x" * 90}{n}"/>'),
    ),
    "a flat tree": lambda size: view(_labels(size, "Taxonomy", lambda n: f'<Choice value="{n}"/>')),
    "a deep tree": lambda size: view(
        _labels(size, "Taxonomy", lambda n: "".join(f'<Choice value="{n}.{d}">' for d in range(50)) + "</Choice>" * 50)
    ),
    "long labels above many": lambda size: view(
        _below(size, "世" * 300, lambda n: f'<Choice value="{n}"/>', 'maxUsages="20"')
    ),
    "long labels above many, escaped": lambda size: view(
        _below(size, "\x7f" * 900, lambda n: f'<Choice value="{n}"/>', 'maxUsages="20"')
    ),
    "many words above many parents": lambda size: view(
        _below(size, "a " * 400, lambda n: f'<Choice value="{n}"><Choice value="x"/></Choice>')
    ),
    "controls in each other": lambda size: view(
        f'<Rating name="r" toName="image" {_WHEN} whenTagName="c0" whenChoiceValue="1"/>',
        "".join(f'<Choices name="c{n}" toName="image">' for n in range(50)),
        _filled(size, lambda n: f'<Choice value="{n}"/>'),
        "</Choices>" * 50,
    ),
    "a long heading above all": lambda size: view(f'<Header value="{"标 " * (size // 2)}"/>', _ratings()),
    "whole paths": lambda size: view(
        _labels(size, "Choices", lambda n: f'<Choice value="{"a/" * 40}{n}"/>').replace(">", ' pathSeparator="/">', 1)
    ),
    "texts": lambda size: view(_filled(size, lambda n: f'<Text name="t{n}" value="$title{n}"/>'), _ratings()),
    "texts that are nested": lambda size: view(_nested(size), _ratings()),
    "headers": lambda size: view(_filled(size, lambda n: f'<Header value="$title{n}"/>'), _ratings()),
    "pictures": lambda size: view(_filled(size, lambda n: f'<Image name="i{n}" value="$image"/>'), _ratings()),
    "one text of many keys": lambda size: view(f'<Text name="t" value="{" $title" * (size // 7)}"/>', _ratings()),
    "empty tags": lambda size: view(CAPTION, _filled(size, lambda n: "<View/>")),
    "conditions": lambda size: view(
        _each(size, lambda n, when: f'<Choices name="c{n}" toName="image" {when}><Choice value="1"/></Choices>')
    ),
    "one condition around all": lambda size: view(
        f'<View {_WHEN} whenChoiceValue="{"z," * (size // 2)}">{_ratings()}</View>'
    ),
    "conditions on a long tree": lambda size: view(
        _labels(size, "Taxonomy", lambda n: f'<Choice value="{n}"/>'),
        f'<View {_WHEN} whenTagName="c" whenChoiceValue="z">' * 15 + _ratings() + "</View>" * 15,
    ),
    "controls": lambda size: view(CAPTION, _filled(size, lambda n: f'<Video name="v{n}" toName="image"/>')),
    "targets": lambda size: view(CAPTION, f'<Rating name="r" toName="{"image," * (size // 6)}"/>'),
    "a long name": lambda size: view(CAPTION, f'<Rating name="{"x" * size}" toName="image"/>'),
    "a long label": lambda size: view(CAPTION, choices("x" * size)),
    "a long title": lambda size: view(f'<TextArea name="t" toName="image" title="{"- _" * (size // 3)}"/>'),
    "a long value": lambda size: view(CAPTION).replace("$image", "$a.b/" * (size // 5)),
    "a long number": lambda size: view(f'<Number name="n" toName="image" min="{"1" * size}x"/>'),
    "attributes": lambda size: view('<Rating name="r" toName="image"' + _filled(size, lambda n: f' a{n}="1"') + "/>"),
    "numbers by their digits": lambda size: view(
        _filled(min(size, 2_500), lambda n: f'<Number name="n{n}" toName="image" step="0.0001" max="{n}"/>')
    ),
    "numbers one by one": lambda size: view(
        _filled(min(size, 2_500), lambda n: f'<Number name="n{n}" toName="image" step="0.0003" min="0" max="2.9"/>')
    ),
    "flags": lambda size: view(CAPTION, _labels(size, "Choices", lambda n: f'<Choice value="yes {n}"/>')).replace(
        'name="c"', 'name="needs_review"'
    ),
}
