"""A question about more than one picture, or about a text of the task, is left out and named."""

from __future__ import annotations

import pytest

from label_config.errors import UnsupportedConfig
from label_config.parse import parse_label_config
from tests.label_config.configs import CAPTION, choices, view

TWO = '<Image name="left" value="$left"/><Image name="right" value="$right"/>'
WHICH = choices("Left", "Right", name="which").replace('toName="image"', 'toName="left"')
SEVERAL = {
    "which is clearer": f"<View>{TWO}{WHICH}</View>",
    "side by side": f'<View><View style="display: flex">{TWO}</View>{WHICH}</View>',
    "each in a view": f"<View>{TWO.replace('<Image', '<View><Image').replace('/>', '/></View>')}{WHICH}</View>",
    "beside the control": f'<View><View><Image name="left" value="$left"/>{WHICH}</View><View>'
    '<Image name="right" value="$right"/></View></View>',
    "similar images": '<View><Image name="query" value="$q"/><Header value="Choose similar images:"/>'
    '<View><Image name="image1" value="$image1"/><Image name="image2" value="$image2"/></View>'
    '<Choices name="which" toName="query" choice="multiple"><Choice value="One"/><Choice value="Two"/></Choices>'
    "</View>",
    "pages of another image": '<View><Image name="left" value="$left"/><Image name="all" valueList="$all"/>'
    + WHICH
    + "</View>",
    "a video": '<View><Image name="left" value="$left"/><Video name="v" value="$v"/>' + WHICH + "</View>",
    "pairwise rating": f'<View>{TWO}<Rating name="which" toName="left,right"/></View>',
}


@pytest.mark.parametrize("xml", SEVERAL.values(), ids=SEVERAL.keys())
def test_a_question_about_several_pictures_is_left_out_by_name(xml: str) -> None:
    with pytest.raises(UnsupportedConfig) as refused:
        parse_label_config(xml)
    assert 'name="which"> is left out: ' in str(refused.value)


ONE = {
    "the same picture twice": '<View><Image name="image" value="$i"/><Image name="zoom" value="$i"/>{}</View>',
    "groups of their own": '<View><View><Image name="image" value="$i"/>{}</View>'
    '<View><Image name="back" value="$b"/><Rating name="r" toName="back"/></View></View>',
    "one": '<View><Image name="image" value="$i"/>{}</View>',
}


@pytest.mark.parametrize("xml", ONE.values(), ids=ONE.keys())
def test_a_question_about_one_picture_is_asked(xml: str) -> None:
    assert parse_label_config(xml.format(CAPTION)).fields[0].name == "caption"


ABOUT_TEXT = {
    "question in a header": '<Header value="$question"/><TextArea name="x" toName="image"/>',
    "question in a text": '<Text name="q" value="$q1"/><TextArea name="x" toName="image"/>',
    "question after it": '<TextArea name="x" toName="image"/><Text name="q" value="$question"/>',
    "around it": '<View><Header value="$ask"/><View><TextArea name="x" toName="image"/></View></View>',
    "inside a sentence": '<Header value="Is this a $label?"/>' + choices("Yes", "No", name="x"),
    "a caption to be judged": '<Text name="c" value="$caption"/>' + choices("Correct", "Incorrect", name="x"),
    "a title to be judged": '<Text name="t" value="$title"/>' + choices("一致", "不一致", name="x"),
    "hypertext": '<HyperText name="h" value="$html"/>' + choices("a", "b", name="x"),
    "nested key": '<Text name="q" value="$item.question"/>' + choices("a", "b", name="x"),
}


@pytest.mark.parametrize("controls", ABOUT_TEXT.values(), ids=ABOUT_TEXT.keys())
def test_a_question_about_a_text_of_the_task_is_left_out_by_name(controls: str) -> None:
    with pytest.raises(UnsupportedConfig) as refused:
        parse_label_config(view(controls))
    assert 'name="x"> is left out: the text "' in str(refused.value)
    assert "the model does not see it" in str(refused.value)


@pytest.mark.parametrize("shown", ["$title", "商品：$product_name", "$sku", "$标题"])
def test_a_text_that_names_the_product_leaves_its_labels_and_is_named(shown: str) -> None:
    schema = parse_label_config(view(f'<Text name="t" value="{shown}"/>', choices("棉", "麻"), CAPTION))
    assert [field.name for field in schema.fields] == ["style", "caption"]
    assert f'people see "{shown}" from the task\'s data, the model does not' in schema.warnings
