"""One Label Studio control tag -> one field of a schema, or the reason why the model cannot fill it.

`BUILDERS` is the list of supported tags. A stored label must be one that Label Studio takes back unchanged: labels
are kept to the character, and refused where Label Studio would confuse two of them.
Raises LeftOut (this control only) and UnsupportedConfig (the config contradicts itself).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from xml.etree.ElementTree import Element

from label_config.control_tag import Control, LeftOut, lowered
from label_config.errors import UnsupportedConfig
from label_config.numbers import MAX_NUMBER, Numbers
from label_config.schema import (
    Choice,
    ChoicesField,
    Field,
    NumberField,
    PathChoicesField,
    RatingField,
    ShortTextField,
    TaxonomyField,
    TaxonomyNode,
    TextField,
)
from label_config.text_kind import is_description

MAX_LABELS = 20_000  # over all of one control; of labels that are whole paths, the parts, over all controls
MAX_USAGES = 20  # paths a model is asked for, however many the control takes
MAX_STARS = 100
MAX_LEVELS = 50  # of a path
MAX_LABEL_BYTES = 1_000  # in the answer, the engine's tokens hold no more; an alias stands in each prediction
MAX_CONDITIONS = 20  # on one control and the tags around it

# Label Studio's editor replaces $name in a label by task data, which no schema knows.
_FROM_TASK = re.compile(r"\$\w", re.ASCII)
# What models write and read as one token with a meaning of its own, <|im_end|> for one: as the text of an answer it
# cannot be told from that.
SPECIAL_TOKEN = re.compile(r"<\|[^<>|]{1,64}\|>")


_Leaf = tuple[list[str], str]  # a path, and the hint of its last label


def build_field(control: Control, objects: Mapping[str, Element]) -> Field:
    """Return the field of `control`. Raises LeftOut, UnsupportedConfig."""
    builder = BUILDERS.get(control.element.tag.lower())
    if builder is None:
        raise LeftOut(f"only {', '.join(tag.tag for tag in supported_tags())} can be filled")
    if control.place.repeated:
        raise LeftOut("it is repeated by <Repeater>, once for each item of the task data")
    if control.flag("perregion") or control.place.region_only:
        raise LeftOut("it belongs to regions drawn on the image, and no regions are predicted")
    if control.flag("peritem"):
        raise LeftOut("it belongs to single pages of a multi-page image")
    if len(control.place.conditions) > MAX_CONDITIONS:
        raise LeftOut(f"it stands under {len(control.place.conditions)} conditions; the limit is {MAX_CONDITIONS}")
    if len(control.to_names) != 1:
        raise LeftOut("it points at several objects")
    target = objects[control.to_names[0]]
    if target.tag.lower() != "image":
        raise LeftOut(f"it points at <{target.tag}>, not at an <Image>")
    if "valuelist" in lowered(target):
        raise LeftOut("its image has several pages (valueList)")
    return builder(control)


def _text(control: Control) -> Field:
    max_chars = control.count("maxlength", 100_000)
    hint, placeholder = _hint(control.attributes), control.attributes.get("placeholder", "").strip()
    described = is_description(control.name, control.own_title, (placeholder, hint), max_chars)
    if described:
        return TextField(**_shared(control), max_chars=max_chars)
    shared = _shared(control) | {"title": control.own_title or placeholder}
    return ShortTextField(**shared, max_chars=max_chars)


def _choices(control: Control) -> Field:
    mode = control.attributes.get("choice", "single").strip().lower() or "single"
    if mode not in ("single", "single-radio", "multiple"):
        raise UnsupportedConfig(f'{control}: choice="{mode}" is unknown; use single, single-radio or multiple.')
    if control.flag("allownested"):
        raise LeftOut("allowNested stores paths; use a <Taxonomy> for nested labels")
    _refuse_dynamic(control)
    elements = _choice_elements(control)
    if any(child.tag.lower() == "choice" for element in elements for child in element.iter() if child is not element):
        raise LeftOut("its choices are nested; use a <Taxonomy> for nested labels")
    choices = tuple(Choice(*_label(control, element)) for element in elements)
    if not choices:
        raise LeftOut("it has no choices")
    _check_labels(control, choices)
    if control.attributes.get("pathseparator"):
        return _path_choices(control, choices, multiple=mode == "multiple")
    return ChoicesField(**_shared(control), choices=choices, multiple=mode == "multiple")


def _path_choices(control: Control, choices: Iterable[Choice], *, multiple: bool) -> Field:
    """Labels that are whole paths become the tree they are the leaves of."""
    if multiple:
        raise LeftOut('with choice="multiple" pathSeparator cannot be honoured; use a <Taxonomy> for several paths')
    separator = control.attributes["pathseparator"]
    leaves: list[_Leaf] = []
    for choice in choices:
        path = choice.value.split(separator)
        if choice.alias:
            raise LeftOut(f'with pathSeparator its label "{choice.value[:80]}" cannot have an alias')
        if not all(label.strip() for label in path) or len(path) > MAX_LEVELS:
            raise UnsupportedConfig(f'{control}: "{choice.value[:80]}" is no path of 1 to {MAX_LEVELS} labels.')
        leaves.append((path, choice.hint))
    return PathChoicesField(
        **_shared(control),
        roots=_grown(control, leaves),
        leaves_only=True,
        max_usages=1,
        separator=separator,
    )


def _grown(control: Control, leaves: Iterable[_Leaf]) -> tuple[TaxonomyNode, ...]:
    """The tree that has these leaves, in their order. Refuses a leaf that others stand below."""
    below: dict[str, list[_Leaf]] = {}
    for path, hint in leaves:
        below.setdefault(path[0], []).append((path[1:], hint))
    nodes = []
    for label, rest in below.items():
        ends = [hint for path, hint in rest if not path]
        if ends and len(rest) > 1:
            raise UnsupportedConfig(f'{control}: "{label[:80]}" is a label, and other labels stand below it.')
        nodes.append(TaxonomyNode(label, hint=ends[0]) if ends else TaxonomyNode(label, children=_grown(control, rest)))
    _check_labels(control, nodes)
    return tuple(nodes)


def _taxonomy(control: Control) -> Field:
    _refuse_dynamic(control)
    _choice_elements(control)
    roots = _nodes(control, control.element)
    if not roots:
        raise LeftOut("it has no choices")
    max_usages = control.count("maxusages", 1_000_000)
    return TaxonomyField(
        **_shared(control),
        roots=roots,
        leaves_only=control.flag("leafsonly"),
        max_usages=min(max_usages, MAX_USAGES) if max_usages else None,
    )


def _nodes(control: Control, parent: Element) -> tuple[TaxonomyNode, ...]:
    nodes = tuple(
        replace(TaxonomyNode(*_label(control, child)), children=_nodes(control, child))
        for child in parent
        if child.tag.lower() == "choice"
    )
    _check_labels(control, nodes)
    return nodes


def _rating(control: Control) -> Field:
    return RatingField(**_shared(control), max_rating=control.count("maxrating", MAX_STARS) or 5)


def _number(control: Control) -> Field:
    minimum, maximum, step = control.number("min"), control.number("max"), control.number("step")
    if minimum is not None and maximum is not None and minimum > maximum:
        raise UnsupportedConfig(f"{control}: min is above max.")
    if step is not None and step <= 0:
        raise UnsupportedConfig(f"{control}: step must be above 0.")
    if any(bound is not None and abs(bound) > MAX_NUMBER for bound in (minimum, maximum)):
        raise UnsupportedConfig(f"{control}: min and max must lie within ±{MAX_NUMBER:,}.")
    try:
        Numbers.of(minimum, maximum, step)
    except UnsupportedConfig as error:
        raise LeftOut(str(error)) from None
    return NumberField(**_shared(control), minimum=minimum, maximum=maximum, step=step)


BUILDERS: dict[str, Callable[[Control], Field]] = {
    "textarea": _text,
    "choices": _choices,
    "taxonomy": _taxonomy,
    "rating": _rating,
    "number": _number,
}


@dataclass(frozen=True, slots=True)
class SupportedTag:
    """One row of the table of supported tags in the documentation."""

    tag: str
    becomes: str
    attributes: tuple[str, ...]


def supported_tags() -> tuple[SupportedTag, ...]:
    """The control tags the model fills, and the attributes read besides name, toName, title, hint and required."""
    return (
        SupportedTag(
            "TextArea", "a description, or the short text that its title asks for", ("maxLength", "placeholder")
        ),
        SupportedTag(
            "Choices",
            "one label, or several with choice=multiple; with pathSeparator one leaf of a tree",
            ("choice", "pathSeparator", "Choice: value, alias, hint"),
        ),
        SupportedTag(
            "Taxonomy", "one or more paths of the tree", ("leafsOnly", "maxUsages", "Choice: value, alias, hint")
        ),
        SupportedTag("Rating", "a whole number of stars", ("maxRating",)),
        SupportedTag("Number", "a number in its range", ("min", "max", "step")),
    )


def _choice_elements(control: Control) -> list[Element]:
    """The choices of `control`, nested or not. Refuses what the editor shows and Label Studio's server overlooks."""
    elements = [e for e in control.element.iter() if e.tag.lower() == "choice"]
    if len({element.tag for element in elements}) > 1:
        # The server checks predictions against the labels of <Choice> only, unless there is none of that spelling.
        raise UnsupportedConfig(f"{control} mixes <Choice> with another spelling; write <Choice> everywhere.")
    if len(elements) > MAX_LABELS:
        raise UnsupportedConfig(f"{control} has {len(elements):,} labels; the limit is {MAX_LABELS:,}.")
    return elements


def _label(control: Control, element: Element) -> tuple[str, str, str]:
    """value, alias, hint of a <Choice>."""
    attributes = lowered(element)
    alias = attributes.get("alias", "")
    value = attributes.get("value", "") or alias
    if not value.strip():
        raise UnsupportedConfig(f"{control} has a <{element.tag}> without a value; give it one.")
    if _FROM_TASK.search(value) or _FROM_TASK.search(alias):
        raise LeftOut(f'its label "{value[:40]}" takes task data ($...)')
    if special := SPECIAL_TOKEN.search(value):
        raise LeftOut(f'its label "{value[:40]}" holds {special[0]}, which models read as a sign of their own')
    for kind, text in (("label", value), ("alias", alias)):
        if (size := len(json.dumps(text, ensure_ascii=False).encode())) > MAX_LABEL_BYTES:
            raise LeftOut(f'its {kind} "{text[:40]}…" has {size:,} bytes of UTF-8; the limit is {MAX_LABEL_BYTES:,}')
    return value, "" if alias == value else alias, _hint(attributes)


def _check_labels(control: Control, labels: Iterable[Choice]) -> None:
    """Refuse two labels that differ by nothing, or by white space that people and the model cannot see."""
    for kind in ("value", "stored"):
        seen: set[str] = set()
        for label in labels:
            text = getattr(label, kind).strip()
            if text in seen:
                raise UnsupportedConfig(
                    f'{control} has the label "{text[:80]}" twice; make its labels (aliases) differ.'
                )
            seen.add(text)


def _refuse_dynamic(control: Control) -> None:
    if control.attributes.get("apiurl"):
        raise LeftOut("its labels come from an apiUrl")
    if control.attributes.get("value", "").strip().startswith("$"):
        raise LeftOut("its labels come from task data (value)")


def _shared(control: Control) -> dict[str, Any]:
    """What every field has."""
    return {
        "name": control.name,
        "to_name": control.to_names[0],
        "title": control.title,
        "hint": _hint(control.attributes),
        "required": control.flag("required") and not control.place.conditional,
    }


def _hint(attributes: Mapping[str, str]) -> str:
    return attributes.get("hint", "").strip()
