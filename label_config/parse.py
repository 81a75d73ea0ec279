"""Label Studio label config (XML) -> LabelSchema: what the model can fill, and what is left out and why.

Knows the tags and attributes of Label Studio 1.23; `controls.supported_tags` lists them. Tag and attribute names are
matched without regard to case, as Label Studio's editor does. Raises UnsupportedConfig for a config that Label Studio
or this package cannot honour; a single control that cannot be filled becomes a line in `LabelSchema.warnings`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import accumulate
from xml.etree.ElementTree import Element

from label_config.control_tag import Control, LeftOut, Place
from label_config.controls import BUILDERS, MAX_LABELS, SPECIAL_TOKEN, build_field
from label_config.errors import UnsupportedConfig, cut
from label_config.lint import condition_traps, label_owners, list_labels, tree_ends
from label_config.numbers import Numbers
from label_config.read_xml import read_tree
from label_config.review_flag import flag_choice
from label_config.schema import (
    ChoicesField,
    Condition,
    Field,
    LabelSchema,
    NumberField,
    PathChoicesField,
    ReviewControls,
    ShortTextField,
    TextField,
)
from label_config.surroundings import Surroundings
from label_config.task_value import checked_place, place_warning
from label_config.text_kind import says_description
from label_config.traps import FLAG_NAME, REASON_NAME, traps

_Labels = Mapping[str, Collection[str]]

MAX_FIELDS = 50
MAX_CONTROLS = 250  # filled or not
MAX_NAME_CHARS = 200
MAX_LISTED_NUMBERS = 20_000  # of all <Number> together; of one 10,000
MAX_CONDITION_CHARS = 100_000  # of the labels that conditions name, on and around all controls
MAX_SAID = 100  # warnings, and as many traps
MAX_SAID_IN_ALL = 20_000  # characters of either: each of fifty controls may quote the labels of the same condition
_NO_CONTROLS = frozenset(
    {"filter", "header", "view", "style", "text", "hypertext", "image", "shortcut"}
)  # toName or not


def parse_label_config(xml: str | bytes) -> LabelSchema:
    """Return what `xml` asks for. The same text always gives the same schema and fingerprint.

    Raises UnsupportedConfig, whose message names the tag or attribute and what to change.
    """
    root = read_tree(xml)
    controls = _controls(root, "", Place(), [])
    if len(controls) > MAX_CONTROLS:
        raise UnsupportedConfig(f"The label config has {len(controls):,} control tags; the limit is {MAX_CONTROLS}.")
    objects = _objects(root, controls)
    warnings: list[str] = []
    found: list[tuple[Control, Field]] = []
    surroundings = Surroundings(root)
    for control in controls:
        try:
            field = build_field(control, objects)
            image = objects[field.to_name]
            more = surroundings.asks_more(control.element, image, describes=_is_asked_to_describe(control, field))
            if more and not _is_review(field):
                raise LeftOut(more)
            found.append((control, field))
        except LeftOut as reason:
            warnings.append(f"{control} is left out: {reason}")
    image_name = _pick_image(objects, found, warnings)
    kept = [(control, field) for control, field in found if field.to_name == image_name]
    review = _review(image_name, [field for _, field in kept], warnings)
    fields = [field for _, field in kept if not _is_review(field)]
    _check_fields(fields, [field.name for _, field in kept if _is_review(field)], warnings)
    conditions = tuple(
        (field.name, control.place.conditions)
        for control, field in kept
        if control.place.conditions and not _is_review(field)
    )
    _check_conditions(conditions)
    if unseen := surroundings.unseen_texts():
        said = ", ".join(f'"{text[:60]}"' for text in unseen[:5])
        warnings.append(f"people see {said} from the task's data, the model does not")
    warnings += [
        f"{control} is shown only under a condition: where the answer makes it false, nothing is filled in"
        for control, field in kept
        if control.place.conditional and not _is_review(field)
    ]
    image_key = _image_key(objects[image_name], warnings)
    known = (tree_ends(fields), list_labels(fields), label_owners(root)) if conditions else ({}, {}, {})
    return LabelSchema(
        fields=tuple(fields),
        image_name=image_name,
        image_key=image_key,
        review=review,
        warnings=_said(warnings),
        conditions=conditions,
        traps=_said(trap for control, field in kept for trap in _all_traps(control, field, known)),
    )


def _controls(element: Element, title: str, outer: Place, lead: list[str]) -> list[Control]:
    """The controls in `element`, in document order; each with its title and what the tags around it impose.

    `lead` holds the headings and texts since the control before.
    """
    place = outer.inside(element)
    tag = element.tag.lower()
    if tag in BUILDERS or (tag not in _NO_CONTROLS and any(key.lower() == "toname" for key in element.attrib)):
        control = Control.of(element, title, place, lead[-1] if lead else "")
        lead.clear()
        return [control]
    found: list[Control] = []
    heading = ""
    for child in element:
        if child.tag.lower() in ("header", "text"):
            value = child.attrib.get("value", "").strip()
            said = "" if re.search(r"\$\w", value) else value
            if said:
                lead.append(said)
            if child.tag.lower() == "header":
                heading = said
        found += _controls(child, heading, place, lead)
    return found


def _objects(root: Element, controls: list[Control]) -> dict[str, Element]:
    """Every named tag by name. Refuses what Label Studio refuses: double names, and a toName that names nothing."""
    names = Counter(element.attrib["name"] for element in root.iter() if "name" in element.attrib)
    long = next((name for name in names if len(name) > MAX_NAME_CHARS), None)
    if long is not None:
        raise UnsupportedConfig(f'name="{long[:40]}…" has {len(long):,} characters; the limit is {MAX_NAME_CHARS}.')
    special = next((name for name in names if SPECIAL_TOKEN.search(name)), None)
    if special is not None:
        raise UnsupportedConfig(f'name="{special}" holds what models read as a sign of their own; name it otherwise.')
    doubled = next((name for name, count in names.items() if count > 1), None)
    if doubled is not None:
        raise UnsupportedConfig(f'Two tags have name="{doubled}"; names must be unique.')
    for control in controls:
        if not control.name:
            raise UnsupportedConfig(f"A <{control.element.tag}> tag has no name; give it one.")
        if not control.to_names:
            raise UnsupportedConfig(f'{control} has no toName; add toName="image" (the name of the <Image> tag).')
        for to_name in control.to_names:
            if to_name not in names:
                raise UnsupportedConfig(f'{control} has toName="{to_name}", but no tag has that name.')
    return {element.attrib["name"]: element for element in root.iter() if "name" in element.attrib}


def _pick_image(objects: dict[str, Element], found: list[tuple[Control, Field]], warnings: list[str]) -> str:
    """The image the fields point at; the first of them in the config if they point at several."""
    images = [name for name, element in objects.items() if element.tag.lower() == "image"]
    if not images:
        raise UnsupportedConfig("The label config has no <Image> tag with a name; prelabel fills images only.")
    targets = {field.to_name for _, field in found}
    image_name = next((name for name in images if name in targets), images[0])
    if len({objects[name].attrib.get("value", name) for name in images}) > 1:
        warnings.append(f'The label config has {len(images)} images; the model sees "{image_name}" only')
    warnings += [
        f'{control} is left out: it points at the image "{field.to_name}", not at "{image_name}"'
        for control, field in found
        if field.to_name != image_name
    ]
    return image_name


def _image_key(image: Element, warnings: list[str]) -> str:
    """The place in a task's data that holds the picture."""
    tag = f'<Image name="{image.attrib["name"]}">'
    value = next((text for name, text in image.attrib.items() if name.lower() == "value"), "").strip()
    try:
        place = checked_place(value)
    except UnsupportedConfig as error:
        raise UnsupportedConfig(f"{tag}: {error}") from None
    if warning := place_warning(place):
        warnings.append(f"{tag}: {warning}")
    return place


def _all_traps(control: Control, field: Field, known: tuple[_Labels, _Labels, _Labels]) -> Iterator[str]:
    yield from traps(control, field)
    if not _is_review(field):
        yield from condition_traps(control, *known)


def _said(sentences: Iterable[str]) -> tuple[str, ...]:
    """What people are told: each on a few lines at most, and no more than they would read."""
    all_said = [cut(sentence) for sentence in sentences]
    lengths = accumulate(len(sentence) for sentence in all_said[:MAX_SAID])
    said = all_said[: sum(length <= MAX_SAID_IN_ALL for length in lengths)]
    more = len(all_said) - len(said)
    return (*said, f"and {more:,} more of this kind") if more else tuple(said)


def _is_asked_to_describe(control: Control, field: Field) -> bool:
    is_description = isinstance(field, TextField) and not isinstance(field, ShortTextField)
    return is_description and says_description(f"{control.name} {control.own_title}")


def _is_review(field: Field) -> bool:
    return (isinstance(field, ChoicesField) and field.name == FLAG_NAME) or (
        isinstance(field, TextField) and field.name == REASON_NAME
    )


def _review(image_name: str, fields: list[Field], warnings: list[str]) -> ReviewControls | None:
    flag = None
    for field in fields:
        if isinstance(field, ChoicesField) and field.name == FLAG_NAME:
            flag = flag_choice(field.choices)
            if flag is None:
                labels = ", ".join(f'"{choice.value[:40]}"' for choice in field.choices[:5])
                warnings.append(
                    f'<Choices name="{FLAG_NAME}"> is left out: it needs one <Choice> that means yes ("yes", "是", '
                    f'"需人工复核") to be ticked when a person should look, and has {labels}'
                )
    has_reason = any(isinstance(f, TextField) and f.name == REASON_NAME for f in fields)
    if flag is None and not has_reason:
        return None
    return ReviewControls(
        to_name=image_name,
        flag_name=FLAG_NAME if flag else "",
        flag=flag,
        reason_name=REASON_NAME if has_reason else "",
    )


def _check_fields(fields: list[Field], reviewed: list[str], warnings: list[str]) -> None:
    if not fields:
        if reviewed:
            verb = "is" if len(reviewed) == 1 else "are"
            warnings = [f"{', '.join(reviewed)} {verb} filled by the review rules, not by the model", *warnings]
        reasons = "; ".join(warnings[:5]) or "it has no control tags"
        raise UnsupportedConfig(
            "The label config has nothing to fill: add a TextArea, Choices, Taxonomy, Rating or Number "
            f"that points at the image ({reasons})."
        )
    if len(fields) > MAX_FIELDS:
        raise UnsupportedConfig(f"The label config has {len(fields)} controls to fill; the limit is {MAX_FIELDS}.")
    in_paths = sum(1 for field in fields if isinstance(field, PathChoicesField) for _ in field.nodes())
    if in_paths > MAX_LABELS:
        raise UnsupportedConfig(
            f"The labels of <Choices pathSeparator> are paths of {in_paths:,} labels; the limit is {MAX_LABELS:,} in "
            "all, where paths that begin alike share labels. Use fewer or shorter paths."
        )
    numbers = [
        Numbers.of(field.minimum, field.maximum, field.step) for field in fields if isinstance(field, NumberField)
    ]
    if (num_listed := sum(each.num_listed for each in numbers)) > MAX_LISTED_NUMBERS:
        raise UnsupportedConfig(
            f"The <Number> tags take {num_listed:,} numbers that no decimal place describes; the limit is "
            f"{MAX_LISTED_NUMBERS:,} in all. Narrow min and max, or give them a step of 1, 0.1, 0.01 …"
        )


def _check_conditions(conditions: Iterable[tuple[str, tuple[Condition, ...]]]) -> None:
    under = [condition for _, around in conditions for condition in around]
    sizes = {condition_id: condition.num_chars for condition_id, condition in {id(c): c for c in under}.items()}
    if (num_chars := sum(sizes[id(condition)] for condition in under)) > MAX_CONDITION_CHARS:
        raise UnsupportedConfig(
            f"The conditions of the controls (visibleWhen, and those around them) name {num_chars:,} characters of "
            f"labels; the limit is {MAX_CONDITION_CHARS:,} in all. Name fewer labels in whenChoiceValue."
        )
