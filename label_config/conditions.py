"""Controls under a condition: whether Label Studio keeps what stands in them, given the rest of the answer.

`visibleWhen`, `whenTagName` and `whenChoiceValue` as Label Studio 1.23 reads them, on a control and on the tags around
it. A value whose condition the answer makes false is hidden, and dropped at Submit or submitted unseen: it is no part
of the answer. Nothing raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from label_config.answer import Answer, FieldValue
from label_config.schema import ChoicesField, Condition, Field, LabelSchema, PathChoicesField, TaxonomyField


def shown_fields(schema: LabelSchema, values: Mapping[str, FieldValue]) -> frozenset[str]:
    """The names of the fields whose conditions hold where `values` is the answer; a hidden one counts for none."""
    return frozenset(_Reading(schema, values).shown_names())


def without_hidden(schema: LabelSchema, answer: Answer) -> Answer:
    """`answer` without the fields that Label Studio would hide."""
    if not schema.conditions:
        return answer
    shown = shown_fields(schema, {name: found.value for name, found in answer.fields.items()})
    return replace(answer, fields={name: found for name, found in answer.fields.items() if name in shown})


@dataclass(frozen=True, slots=True)
class _Reading:
    schema: LabelSchema
    values: Mapping[str, FieldValue]

    def shown_names(self) -> list[str]:
        return [field.name for field in self.schema.fields if self._shown(field.name, ())]

    def _shown(self, name: str, asking: tuple[str, ...]) -> bool:
        """`asking` are the fields whose conditions are being read: one that hangs on itself counts as shown."""
        if name in asking:
            return True
        conditions = dict(self.schema.conditions).get(name, ())
        return all(self._holds(name, condition, (*asking, name)) for condition in conditions)

    def _holds(self, name: str, condition: Condition, asking: tuple[str, ...]) -> bool:
        parents = [
            field
            for field in self.schema.fields
            if isinstance(field, ChoicesField | TaxonomyField)
            and field.name != name
            and (field.name == condition.tag or not condition.tag)
            and self.values.get(field.name)
            and self._shown(field.name, asking)
        ]
        selected = any(_matches(field, self.values[field.name], condition) for field in parents)
        return not selected if condition.unselected else selected


def _matches(field: Field, value: FieldValue, condition: Condition) -> bool:
    if not condition.values:
        return True
    if isinstance(field, TaxonomyField) and not isinstance(field, PathChoicesField):
        if condition.on_control and not condition.unselected:
            return False  # shown, and lost at Submit
        paths = value if isinstance(value, tuple) else ()
        ends = [nodes[-1] for path in paths if isinstance(path, tuple) and (nodes := field.find(path))]
        return any(label in (node.value, node.stored) for node in ends for label in condition.values)
    labels = value if isinstance(value, tuple) else ()
    if isinstance(field, PathChoicesField):
        return any(field.label(path) in condition.values for path in labels if isinstance(path, tuple))
    assert isinstance(field, ChoicesField)
    chosen = [choice for choice in field.choices if choice.value in labels]
    return any(label in (choice.value, choice.stored) for choice in chosen for label in condition.values)
