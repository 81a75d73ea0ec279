"""What Label Studio's editor does with a control that the people who label would not expect, and what to write instead.

Seen in Label Studio 1.23. Knows one control at a time. Nothing here changes what is filled; nothing raises.
"""

from __future__ import annotations

from collections.abc import Iterator

from label_config.control_tag import Control
from label_config.schema import Field, PathChoicesField, TaxonomyField

FLAG_NAME = "needs_review"
REASON_NAME = "review_reason"

_INSTEAD = (
    'a <Choices layout="select" pathSeparator=" / "> whose labels are whole paths ("A / B") replaces it in one click'
)


def traps(control: Control, field: Field) -> Iterator[str]:
    """A sentence for each trap in `control`, which gives `field`."""
    if field.name in (FLAG_NAME, REASON_NAME):
        if not _is_kept_out(control):
            yield (
                f"{control} is submitted as the annotator's own answer unless it is emptied first; "
                "the review part of ecommerce.zh shows the same and keeps it out of what is submitted"
            )
    elif isinstance(field, TaxonomyField) and not isinstance(field, PathChoicesField):
        if field.max_usages == 1:
            yield (
                f'{control} has maxUsages="1": once filled it takes no other label, without a word, until the x of the '
                f"first is clicked, and a wrong one is easily submitted; {_INSTEAD}"
            )
        elif field.max_usages is None:
            yield (
                f"{control} is filled with one label, but a corrected one is added to it, and both are submitted, "
                f"until the x of the first is clicked; where one is wanted, {_INSTEAD}"
            )


def _is_kept_out(control: Control) -> bool:
    """Whether Label Studio shows the review control and leaves it out of what is submitted.

    A result is submitted if its condition holds among the *other* controls' results, but what is seen follows another
    reading: a <Choices> under a choice without a tag name is seen once anything is chosen, a <TextArea> always.
    """
    attributes = control.attributes
    condition, tag = attributes.get("visiblewhen", ""), attributes.get("whentagname", "")
    if control.name == FLAG_NAME:
        return condition == "choice-selected" and not tag and bool(attributes.get("whenchoicevalue"))
    return condition == "choice-unselected" and tag == FLAG_NAME
