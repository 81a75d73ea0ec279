"""Controls under a condition: whether Label Studio keeps what stands in them, given the rest of the answer.

`visibleWhen`, `whenTagName` and `whenChoiceValue` as Label Studio 1.23 reads them, on a control and on the tags around
it. A value whose condition the answer makes false is hidden, and dropped at Submit or submitted unseen: it is no part
of the answer. Nothing raises.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from label_config.answer import Answer, FieldValue
from label_config.schema import ChoicesField, Condition, LabelSchema, PathChoicesField, TaxonomyField


def shown_fields(schema: LabelSchema, values: Mapping[str, FieldValue]) -> frozenset[str]:
    """The names of the fields whose conditions hold where `values` is the answer; a hidden one counts for none.

    All are shown at first, and looked at again until nothing changes. Fields that hang on each other so stay shown;
    where one hangs on its own absence, nothing settles, and the look after the last field's decides.
    """
    shown = frozenset(field.name for field in schema.fields)
    trees = {f.name for f in schema.fields if isinstance(f, TaxonomyField) and not isinstance(f, PathChoicesField)}
    parents = [f for f in schema.fields if isinstance(f, ChoicesField | TaxonomyField) and values.get(f.name)]
    selected = {field.name: _selected(field, values[field.name]) for field in parents}
    met = {
        name: [(_meeting(name, condition, selected, trees), condition.unselected) for condition in under]
        for name, under in schema.conditions
    }
    for _ in schema.fields:
        before = shown
        shown = frozenset(
            field.name
            for field in schema.fields
            if all(before.isdisjoint(by) is unselected for by, unselected in met.get(field.name, ()))
        )
        if shown == before:
            break
    return shown


def _meeting(
    name: str, condition: Condition, selected: Mapping[str, frozenset[str]], trees: Collection[str]
) -> frozenset[str]:
    """The fields whose values meet `condition` of the field `name`, as long as they are shown."""
    lost = trees if condition.values and condition.on_control and not condition.unselected else ()  # at Submit
    return frozenset(
        parent
        for parent, labels in selected.items()
        if parent != name
        and condition.tag in ("", parent)
        and parent not in lost
        and (not condition.values or not labels.isdisjoint(condition.values))
    )


def without_hidden(schema: LabelSchema, answer: Answer) -> Answer:
    """`answer` without the fields that Label Studio would hide."""
    if not schema.conditions:
        return answer
    shown = shown_fields(schema, {name: found.value for name, found in answer.fields.items()})
    return replace(answer, fields={name: found for name, found in answer.fields.items() if name in shown})


def _selected(field: ChoicesField | TaxonomyField, value: FieldValue) -> frozenset[str]:
    """What a condition may name to be met by `value`: labels as people read them, and as they are stored."""
    labels = frozenset(value) if isinstance(value, tuple) else frozenset()
    if isinstance(field, ChoicesField):
        chosen = [choice for choice in field.choices if choice.value in labels]
        return frozenset(text for choice in chosen for text in (choice.value, choice.stored))
    paths = [path for path in labels if isinstance(path, tuple)]
    if isinstance(field, PathChoicesField):
        return frozenset(map(field.label, paths))
    ends = [nodes[-1] for path in paths if (nodes := field.find(path))]
    return frozenset(text for node in ends for text in (node.value, node.stored))
