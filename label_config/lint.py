"""Conditions under which Label Studio shows a value and loses it at Submit, and the label config that keeps it.

Seen in Label Studio 1.23, in a browser and in the editor's source. `rewritten` changes what has one meaning: afterwards
what people see is what is submitted. Raises UnsupportedConfig for what is no label config.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from xml.etree.ElementTree import Element, tostring

from label_config.control_tag import Control
from label_config.read_xml import read_tree
from label_config.schema import ChoicesField, Condition, Field, PathChoicesField, TaxonomyField
from label_config.traps import FLAG_NAME, REASON_NAME

MAX_OWNERS = 3
_FIX = "prelabel doctor --label-config FILE --fix writes that"
_CONDITION = ("visiblewhen", "whentagname", "whenchoicevalue")


def tree_ends(fields: Iterable[Field]) -> dict[str, frozenset[str]]:
    """For each Taxonomy by name, what stands at the end of its paths, as people read it and as it is stored."""
    trees = [f for f in fields if isinstance(f, TaxonomyField) and not isinstance(f, PathChoicesField)]
    return {
        tree.name: frozenset(text for path in tree.paths() for text in (path[-1].value, path[-1].stored))
        for tree in trees
    }


def list_labels(fields: Iterable[Field]) -> dict[str, frozenset[str]]:
    """For each Choices by name, its labels, as people read them and as they are stored."""
    found: dict[str, frozenset[str]] = {}
    for field in fields:
        if isinstance(field, PathChoicesField):
            found[field.name] = frozenset(field.label([node.value for node in path]) for path in field.paths())
        elif isinstance(field, ChoicesField):
            found[field.name] = frozenset(text for choice in field.choices for text in (choice.value, choice.stored))
    return found


def label_owners(root: Element) -> dict[str, dict[str, None]]:
    """For each label the first three controls that have it: itself and two others, of which one cannot be meant. A
    label is that of the innermost control around it."""
    owners: dict[str, dict[str, None]] = {}
    waiting = [(root, "")]
    while waiting:
        element, control = waiting.pop()
        tag = element.tag.lower()
        if tag == "choice" and control:
            for label in (_get(element, "value"), _get(element, "alias")):
                found = owners.setdefault(label, {})
                if len(found) < MAX_OWNERS:
                    found[control] = None
        control = _get(element, "name") if tag in ("choices", "taxonomy") else control
        waiting += [(child, control) for child in reversed(element)]
    return owners


def condition_traps(
    control: Control,
    ends: Mapping[str, Collection[str]],
    labels: Mapping[str, Collection[str]],
    owners: Mapping[str, Collection[str]],
) -> Iterator[str]:
    """A sentence for each condition on or around `control` that loses what stands in it. `ends`, `labels`, `owners`:
    see `tree_ends`, `list_labels` and `label_owners`."""
    for condition in control.place.conditions:
        if condition.unselected or not condition.values:
            continue
        wanted = ",".join(condition.values)
        if not condition.tag and condition.on_control:
            yield (
                f"{control} is shown once anything is chosen, but submitted only where {wanted} is: "
                f"{_what_to_name(control.name, condition, owners)}"
            )
        elif missing := [value for value in condition.values if value not in labels.get(condition.tag, (value,))]:
            yield (
                f'the condition of {control} names "{missing[0]}", which is no label of <Choices '
                f'name="{condition.tag}">, so it is never shown for that; name labels as they stand there'
            )
        elif condition.tag in ends:
            if condition.on_control:
                yield (
                    f'{control} is shown where "{wanted}" is chosen in <Taxonomy name="{condition.tag}">, and what '
                    f"stands in it is gone after Submit, so it is not filled; move its condition to a <View> around it "
                    f"({_FIX})"
                )
            unknown = next((value for value in condition.values if value not in ends[condition.tag]), None)
            if unknown is not None:
                yield (
                    f'the condition of {control} names "{unknown}", which is no last label of a path of <Taxonomy '
                    f'name="{condition.tag}">; what stands in the control is dropped at Submit; name last labels'
                )


def _what_to_name(name: str, condition: Condition, owners: Mapping[str, Collection[str]]) -> str:
    if owner := _only_owner(name, condition.values, owners):
        return f'write whenTagName="{owner}" there ({_FIX})'
    some = _owners(name, condition.values, owners)
    why = f"{' and '.join(some)} have such labels" if len(some) > 1 else "no other control has all of these labels"
    return f"say with whenTagName in which <Choices>; {why}"


def _owners(name: str, values: Iterable[str], owners: Mapping[str, Collection[str]]) -> list[str]:
    """The controls other than `name` that have one of the labels."""
    return list(dict.fromkeys(owner for value in values for owner in owners.get(value, ()) if owner != name))


def _only_owner(name: str, values: Iterable[str], owners: Mapping[str, Collection[str]]) -> str:
    """The one other control that has any of the labels, if it has all; else ""."""
    some = _owners(name, values, owners)
    return some[0] if len(some) == 1 and all(some[0] in owners.get(value, ()) for value in values) else ""


def rewritten(xml: str) -> str | None:
    """`xml` with the control named whose label a condition on a control means, where only one can be meant, and each
    condition on a control that hangs on a Taxonomy's label moved to a `<View>` around it.

    None if there is nothing to change. Comments are lost.
    """
    root = read_tree(xml)
    trees = {_get(e, "name") for e in root.iter() if e.tag.lower() == "taxonomy"}
    moved = _name_owners(root)
    for parent in list(root.iter()):
        for place, child in enumerate(list(parent)):
            if _is_lost(child, trees):
                parent[place] = _inside_view(child)
                moved += 1
    return tostring(root, encoding="unicode") + "\n" if moved else None


def _name_owners(root: Element) -> int:
    """Write whenTagName where it is missing; how often. The review controls are kept out of what is submitted so."""
    owners = label_owners(root)
    num = 0
    for element in root.iter():
        values, tag, name = _get(element, "whenchoicevalue"), _get(element, "whentagname"), _get(element, "name")
        visible_when = _get(element, "visiblewhen").lower()
        is_open = (visible_when == "choice-selected" and not tag) or not visible_when
        if values and is_open and _get(element, "toname") and name not in (FLAG_NAME, REASON_NAME):
            owner = _only_owner(name, values.split(","), owners)
            if owner and tag in ("", owner):
                kept = {key: value for key, value in element.attrib.items() if key.lower() not in _CONDITION[:2]}
                element.attrib.clear()
                element.attrib.update(kept | {"visibleWhen": "choice-selected", "whenTagName": owner})
                num += 1
    return num


def _is_lost(element: Element, trees: set[str]) -> bool:
    selected = _get(element, "visiblewhen").lower() == "choice-selected"
    on_tree = _get(element, "whentagname") in trees and bool(_get(element, "whenchoicevalue"))
    return bool(_get(element, "toname")) and selected and on_tree


def _inside_view(control: Element) -> Element:
    condition = {key: value for key, value in control.attrib.items() if key.lower() in _CONDITION}
    for key in condition:
        del control.attrib[key]
    view = Element("View", condition)
    view.tail, control.tail = control.tail, None
    view.append(control)
    return view


def _get(element: Element, name: str) -> str:
    return next((value for key, value in element.attrib.items() if key.lower() == name), "")
