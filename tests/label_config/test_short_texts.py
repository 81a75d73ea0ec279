"""A `<TextArea>` is asked for what it is: a description only where it is one."""

from __future__ import annotations

import pytest

from label_config.answer import Answer, FieldAnswer, parse_answer, render_answer
from label_config.grammar import answer_grammar
from label_config.parse import parse_label_config
from label_config.prompt import PromptOptions, build_instruction
from label_config.ready_made import ready_made, ready_made_names
from label_config.regions import answer_to_regions
from label_config.review import review
from label_config.schema import ShortTextField, TextField
from tests.label_config.byte_model import admits
from tests.label_config.configs import CAPTION, choices, view


def area(attributes: str) -> str:
    return f'<TextArea toName="image" {attributes}/>'


SHORT = {
    "brand with a header": '<Header value="品牌"/>' + area('name="brand" maxLength="20"'),
    "brand without a limit": '<Header value="品牌"/>' + area('name="brand"'),
    "brand by name": area('name="brand"'),
    "model number": '<Header value="型号"/>' + area('name="text1"'),
    "by title": area('name="t" title="Model number"'),
    "by placeholder": area('name="text" placeholder="货号"'),
    "by static text": '<Text name="l" value="OCR 文字："/>' + area('name="t1"'),
    "in a view of its own": '<View><Header value="价格标签"/></View><View>' + area('name="text"') + "</View>",
    "a question": '<Header value="What colour is the bag?"/>' + area('name="answer"'),
    "remarks": area('name="comments"'),
    "called a description, but no room for one": '<Header value="描述"/>' + area('name="desc" maxLength="40"'),
    "product title": '<Header value="商品标题"/>' + area('name="title" maxLength="60"'),
    "hint says describe, name says brand": area('name="brand" hint="describe the brand in one word"'),
}
DESCRIPTIONS = {
    "caption": CAPTION,
    "by header": '<Header value="Describe the image:"/>' + area('name="q1"'),
    "by chinese header": '<Header value="图片描述"/>' + area('name="text"'),
    "by placeholder": area('name="text" placeholder="Enter description here..."'),
    "by name": area('name="product_description"'),
    "by short name": area('name="img_desc"'),
    "nothing says what it is": area('name="text"'),
    "marketing copy": '<Header value="营销文案"/>' + area('name="t" maxLength="200"'),
}


@pytest.mark.parametrize("control", SHORT.values(), ids=SHORT.keys())
def test_a_text_that_is_no_description_is_asked_for_what_its_title_says(control: str) -> None:
    [field] = parse_label_config(view(control)).fields
    assert type(field) is ShortTextField
    for language in ("zh", "en"):
        instruction = build_instruction(parse_label_config(view(control)), PromptOptions(language=language))
        assert "字的描述" not in instruction
        assert "a description of" not in instruction
        assert (field.title or field.name) in instruction
        assert str(field.max_chars or 100) in instruction
        assert "null" in instruction


@pytest.mark.parametrize("control", DESCRIPTIONS.values(), ids=DESCRIPTIONS.keys())
def test_a_description_is_asked_for_as_before(control: str) -> None:
    [field] = parse_label_config(view(control)).fields
    assert type(field) is TextField
    assert "写一段80到120字的描述" in build_instruction(parse_label_config(view(control)))


@pytest.mark.parametrize("name", ready_made_names())
def test_the_ready_made_captions_are_descriptions(name: str) -> None:
    assert type(parse_label_config(ready_made(name)).field("caption")) is TextField


def test_the_title_of_a_section_is_not_that_of_every_text_in_it() -> None:
    schema = parse_label_config(view('<Header value="描述"/>', CAPTION, area('name="brand"'), area('name="text2"')))
    assert [type(field) for field in schema.fields] == [TextField, ShortTextField, TextField]
    assert schema.field("brand").title == ""


def test_a_brand_before_the_caption_is_not_the_caption() -> None:
    schema = parse_label_config(view(area('name="brand"'), CAPTION))
    assert schema.caption == schema.field("caption")
    assert parse_label_config(view(area('name="brand"'))).caption is None


def test_a_description_is_asked_for_no_more_than_its_control_takes() -> None:
    schema = parse_label_config(view('<Header value="描述"/>', area('name="d" maxLength="70"')))
    assert "写一段46到70字的描述" in build_instruction(schema)
    english = build_instruction(schema, PromptOptions(language="en", caption_min=30, caption_max=60))
    assert "a description of 6 to 10 words" in english
    found = review(
        schema, Answer({"d": FieldAnswer("一件红色的连衣裙挂在白色的墙前，光线柔和，面料轻薄，适合夏天穿着出门散步。")})
    )
    assert [finding.code for finding in found] == []


def test_a_short_text_may_be_null_unless_it_is_required() -> None:
    optional = parse_label_config(view(area('name="brand" maxLength="4"')))
    required = parse_label_config(view(area('name="brand" maxLength="4" required="true"')))
    for text, fits in (("null", True), ('"Gucc"', True), ('"Gucci"', False), ('""', False)):
        assert admits(answer_grammar(optional, text_max_chars=400), f'{{"brand":{text}}}') == fits
    assert not admits(answer_grammar(required, text_max_chars=400), '{"brand":null}')
    assert "null" not in build_instruction(required)
    written = render_answer(optional, {"brand": None}).encode()
    answer = parse_answer(optional, [written], [1.0], truncated=False)
    assert answer == Answer({"brand": FieldAnswer(None)})
    assert answer_to_regions(optional, answer, seed="s") == []
    assert review(optional, answer) == ()
    assert [finding.code for finding in review(required, Answer({}))] == ["missing"]


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("耐克", []),
        ("Nike", []),
        ("AJ1", []),
        ("看不清", ["uncertain_words"]),
        ("一" * 20, ["repetition", "cut_off"]),
        ("这个品牌的名字非常非常长而且没有写完整了呢", ["cut_off"]),
    ],
)
def test_the_rules_of_descriptions_are_not_those_of_a_brand(text: str, codes: list[str]) -> None:
    schema = parse_label_config(view('<Header value="品牌"/>', area('name="brand" maxLength="20"')))
    found = review(schema, Answer({"brand": FieldAnswer(text)}))
    assert sorted(finding.code for finding in found) == sorted(codes)
    assert all(finding.reason.startswith("品牌：") for finding in found)


def test_an_instruction_of_a_field_stands_on_its_line() -> None:
    schema = parse_label_config(view(CAPTION, choices("a", "b"), area('name="brand"')))
    options = PromptOptions(field_instructions=(("brand", "只写\nlogo 上的字"), ("style", "看领口"), ("gone", "x")))
    lines = build_instruction(schema, options).splitlines()
    plain = build_instruction(schema).splitlines()
    assert [line for line in lines if line not in plain] == [
        "- style：单选，从中选一个，图中看不出则填 null：a、b 补充要求：看领口",
        "- brand：按名称填写图中看得见的内容，照图中原文，最多100字，图中看不出则填 null。 补充要求：只写 logo 上的字",
    ]
