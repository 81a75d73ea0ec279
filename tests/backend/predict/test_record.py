"""The flat record of one picture."""

from backend.predict.record import make_record
from label_config.answer import Answer, FieldAnswer
from label_config.review import review
from label_config.schema import (
    Choice,
    ChoicesField,
    LabelSchema,
    RatingField,
    TaxonomyField,
    TaxonomyNode,
    TextField,
)

SCHEMA = LabelSchema(
    (
        TextField("caption", "image"),
        TaxonomyField("category", "image", (TaxonomyNode("服饰", children=(TaxonomyNode("男装"),)),), required=True),
        ChoicesField("season", "image", (Choice("秋冬"), Choice("夏季"))),
        ChoicesField("scene", "image", (Choice("商务休闲"), Choice("居家")), multiple=True),
        RatingField("quality", "image"),
    ),
    "image",
    "image",
)
ANSWER = Answer(
    {
        "caption": FieldAnswer("一件深色夹克"),
        "category": FieldAnswer((("服饰", "男装"),), 0.91234567),
        "season": FieldAnswer(("秋冬",), 0.8),
        "scene": FieldAnswer(("商务休闲", "居家"), 0.3),
        "quality": FieldAnswer(None, 0.7),
    }
)


def test_a_record_begins_as_the_seed_article_writes_it() -> None:
    record = make_record(SCHEMA, ANSWER, (), image_id="img_0001", model_version="m-nf4-1")
    assert list(record)[:3] == ["image_id", "caption", "tags"]
    assert record["image_id"] == "img_0001"
    assert record["caption"] == "一件深色夹克"
    assert record["tags"] == ["男装", "秋冬", "商务休闲", "居家"]


def test_fields_are_plain_values_with_a_confidence_each() -> None:
    record = make_record(SCHEMA, ANSWER, (), image_id="x", model_version="m-nf4-1")
    assert record["fields"] == {
        "caption": "一件深色夹克",
        "category": "服饰 / 男装",
        "season": "秋冬",
        "scene": ["商务休闲", "居家"],
        "quality": None,
    }
    assert record["confidence"] == {"category": 0.9123, "season": 0.8, "scene": 0.3, "quality": 0.7}
    assert record["score"] == 0.3


def test_findings_become_reasons_to_review() -> None:
    record = make_record(SCHEMA, ANSWER, review(SCHEMA, ANSWER), image_id="x", model_version="m-nf4-1")
    assert record["needs_review"] is True
    assert any("30%" in reason for reason in record["review_reasons"])


def test_reasons_can_be_had_in_english() -> None:
    findings = review(SCHEMA, ANSWER)
    record = make_record(SCHEMA, ANSWER, findings, image_id="x", model_version="m-nf4-1", language="en")
    assert record["review_reasons"] == [finding.reason_en for finding in findings]
