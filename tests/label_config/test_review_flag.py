"""The flag of needs_review is the choice that means yes, wherever it stands in the list."""

from __future__ import annotations

import pytest

from label_config.answer import Answer
from label_config.errors import UnsupportedConfig
from label_config.parse import parse_label_config
from label_config.regions import answer_to_regions
from label_config.review import review
from tests.label_config.configs import CAPTION, choice, choices, view


@pytest.mark.parametrize(
    ("labels", "flag"),
    [
        (["no", "yes"], "yes"),
        (["yes", "no"], "yes"),
        (["No", "Yes"], "Yes"),
        (["否", "是"], "是"),
        (["不需要", "需要"], "需要"),
        (["不需要人工复核", "需要人工复核"], "需要人工复核"),
        (["无需复核", "需人工复核"], "需人工复核"),
        (["通过", "待审核"], "待审核"),
        (["审核通过", "需审核"], "需审核"),
        (["已复核", "未定", "需复核"], "需复核"),
        (["正常", "存疑"], "存疑"),
        (["No review needed", "Needs review"], "Needs review"),
        (["does not need review", "review"], "review"),
        (["OK", "check"], "check"),
        (["false", "true"], "true"),
        (["0", "1"], "1"),
        (["approved", "needs_review"], "needs_review"),
        (["✅ OK", "⚠ Needs review"], "⚠ Needs review"),
        (["いいえ", "はい"], "はい"),
        (["需人工复核"], "需人工复核"),
        (["⚠"], "⚠"),
        (["Flagged"], "Flagged"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, list) else "",
)
def test_the_flag_is_the_choice_that_means_yes(labels: list[str], flag: str) -> None:
    schema = parse_label_config(view(CAPTION, choices(*labels, name="needs_review")))
    assert schema.warnings == ()
    findings = review(schema, Answer({}))
    [region] = answer_to_regions(schema, Answer({}), findings, seed="s")
    assert region["value"] == {"choices": [flag]}


@pytest.mark.parametrize(
    "labels",
    [["a", "b"], ["no"], ["无需复核"], ["yes", "needs review"], ["low", "medium", "high"], ["no", "否"]],
    ids=",".join,
)
def test_without_one_that_means_yes_there_is_no_flag_and_a_warning(labels: list[str]) -> None:
    schema = parse_label_config(view(CAPTION, choices(*labels, name="needs_review")))
    [warning] = schema.warnings
    assert warning.startswith('<Choices name="needs_review"> is left out: ')
    assert "that means yes" in warning
    assert answer_to_regions(schema, Answer({}), review(schema, Answer({})), seed="s") == []


def test_an_alias_that_means_yes_counts_where_the_label_says_neither() -> None:
    control = f'<Choices name="needs_review" toName="image">{choice("⬜", "no")}{choice("⬛", "yes")}</Choices>'
    schema = parse_label_config(view(CAPTION, control))
    [region] = answer_to_regions(schema, Answer({}), review(schema, Answer({})), seed="s")
    assert region["value"] == {"choices": ["yes"]}


@pytest.mark.parametrize(
    ("controls", "said"),
    [
        (choices("需人工复核", name="needs_review"), "needs_review is filled by the review rules, not by the model"),
        (
            choices("yes", name="needs_review") + '<TextArea name="review_reason" toName="image"/>',
            "needs_review, review_reason are filled by the review rules, not by the model",
        ),
        ("", "it has no control tags"),
    ],
    ids=["flag", "both", "nothing"],
)
def test_a_config_that_only_the_review_rules_fill_is_refused_in_right_words(controls: str, said: str) -> None:
    with pytest.raises(UnsupportedConfig) as refused:
        parse_label_config(view(controls))
    assert said in str(refused.value)
    assert ("no control tags" in str(refused.value)) == (not controls)


@pytest.mark.parametrize(
    "tag",
    [
        '<Filter name="f" toName="style" hotkey="shift+f"/>',
        '<Filter toName="style" minlength="0" placeholder="Filter"/>',
        '<Header value="x" toName="image"/>',
        '<View toName="image"><Style>.a{}</Style></View>',
    ],
)
def test_a_tag_that_helps_people_is_no_control_left_out(tag: str) -> None:
    schema = parse_label_config(view(tag, choices("a", "b")))
    assert [field.name for field in schema.fields] == ["style"]
    assert schema.warnings == ()
