"""Where Label Studio's form misleads, people are told by name, with the better form."""

from __future__ import annotations

import pytest

from label_config.parse import parse_label_config
from label_config.ready_made import ready_made, ready_made_names
from tests.label_config.configs import CAPTION, choice, choices, view

_BOX = choice("a", inner=choice("b"))
FLAG = '<Choices name="needs_review" toName="image" {}><Choice value="x"/></Choices>'
REASON = '<TextArea name="review_reason" toName="image" {}/>'
KEPT_FLAG = FLAG.format('visibleWhen="choice-selected" whenChoiceValue="x"')
KEPT_REASON = REASON.format('visibleWhen="choice-unselected" whenTagName="needs_review"')


@pytest.mark.parametrize(
    ("control", "said"),
    [
        (f'<Taxonomy name="t" toName="image" maxUsages="1">{_BOX}</Taxonomy>', 'has maxUsages="1": once filled'),
        (f'<Taxonomy name="t" toName="image" leafsOnly="true">{_BOX}</Taxonomy>', "both are submitted"),
        (FLAG.format(""), "submitted as the annotator's own answer"),
        (REASON.format(""), "submitted as the annotator's own answer"),
        (FLAG.format('visibleWhen="choice-selected" whenTagName="style"'), "submitted as the annotator's own answer"),
        (REASON.format('visibleWhen="choice-unselected" whenTagName="style"'), "the review part of ecommerce.zh"),
    ],
    ids=["one usage", "any number", "flag", "reason", "flag under a condition", "reason under another condition"],
)
def test_a_trap_is_named_with_what_to_write_instead(control: str, said: str) -> None:
    [trap] = parse_label_config(view(CAPTION, control)).traps
    assert said in trap
    assert ("pathSeparator" in trap) == ("<Taxonomy" in control)


@pytest.mark.parametrize(
    "control",
    [
        f'<Taxonomy name="t" toName="image" maxUsages="3">{_BOX}</Taxonomy>',
        choices("a / b", attributes='pathSeparator=" / "'),
        choices("a", "b"),
        KEPT_FLAG + KEPT_REASON,
    ],
    ids=["several wanted", "paths in one list", "choices", "review hint kept out"],
)
def test_what_works_as_expected_is_not_mentioned(control: str) -> None:
    assert parse_label_config(view(CAPTION, control)).traps == ()


@pytest.mark.parametrize("name", ready_made_names())
def test_a_ready_made_config_has_no_trap(name: str) -> None:
    assert parse_label_config(ready_made(name)).traps == ()


def test_traps_are_no_part_of_the_fingerprint() -> None:
    kept, submitted = view(CAPTION, KEPT_FLAG), view(CAPTION, FLAG.format(""))
    assert parse_label_config(kept).fingerprint == parse_label_config(submitted).fingerprint
