"""Conditions under which Label Studio shows a value and loses it at Submit, and the label config that keeps it.

Seen in Label Studio 1.23, in a browser and in the editor's source. `rewritten` changes what can be changed without
changing what people see. Raises UnsupportedConfig for what is no label config.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from xml.etree.ElementTree import Element, tostring

from label_config.controls import Control
from label_config.read_xml import read_tree
from label_config.schema import Field, PathChoicesField, TaxonomyField

_CONDITION = ("visiblewhen", "whentagname", "whenchoicevalue")


def tree_ends(fields: Iterable[Field]) -> dict[str, frozenset[str]]:
    """For each Taxonomy by name, what stands at the end of its paths, as people read it and as it is stored."""
    trees = [f for f in fields if isinstance(f, TaxonomyField) and not isinstance(f, PathChoicesField)]
    return {
        tree.name: frozenset(text for path in tree.paths() for text in (path[-1].value, path[-1].stored))
        for tree in trees
    }


def condition_traps(control: Control, ends: Mapping[str, Collection[str]]) -> Iterator[str]:
    """A sentence for each condition on or around `control` that loses what stands in it. `ends`: see `tree_ends`."""
    for condition in control.place.conditions:
        if condition.unselected or not condition.values:
            continue
        wanted = ",".join(condition.values)
        if not condition.tag and condition.on_control:
            yield (
                f"{control} is shown once anything is chosen, but submitted only where {wanted} is: "
                "say with whenTagName in which <Choices>"
            )
        elif condition.tag in ends:
            if condition.on_control:
                yield (
                    f'{control} is shown where "{wanted}" is chosen in <Taxonomy name="{condition.tag}">, and what '
                    "stands in it is gone after Submit, so it is not filled; move its condition to a <View> around it "
                    "(prelabel doctor --label-config FILE --fix writes that)"
                )
            unknown = next((value for value in condition.values if value not in ends[condition.tag]), None)
            if unknown is not None:
                yield (
                    f'the condition of {control} names "{unknown}", which is no last label of a path of <Taxonomy '
                    f'name="{condition.tag}">; what stands in the control is dropped at Submit; name last labels'
                )


def rewritten(xml: str) -> str | None:
    """`xml` with each condition on a control that hangs on a Taxonomy's label moved to a `<View>` around it.

    None if there is nothing to change. Comments are lost.
    """
    root = read_tree(xml)
    trees = {_get(e, "name") for e in root.iter() if e.tag.lower() == "taxonomy"}
    moved = 0
    for parent in list(root.iter()):
        for place, child in enumerate(list(parent)):
            if _is_lost(child, trees):
                parent[place] = _inside_view(child)
                moved += 1
    return tostring(root, encoding="unicode") + "\n" if moved else None


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
