"""Label configs as people write them: what becomes a field, what is left out, what is refused."""

from __future__ import annotations

import pytest
from label_studio_sdk.label_interface import LabelInterface

from label_config.controls import supported_tags
from label_config.errors import UnsupportedConfig
from label_config.parse import parse_label_config
from label_config.schema import (
    Choice,
    ChoicesField,
    NumberField,
    RatingField,
    ReviewControls,
    TaxonomyField,
    TaxonomyNode,
    TextField,
)
from tests.label_config.configs import CAPTION, EVERYTHING, IMAGE, choice, choices, view


def test_every_supported_tag_becomes_its_field() -> None:
    schema = parse_label_config(EVERYTHING)
    assert schema.warnings == ()
    assert (schema.image_name, schema.image_key) == ("image", "image")
    assert schema.fields == (
        TextField("caption", "image", title="描述"),
        TaxonomyField(
            "category",
            "image",
            (
                TaxonomyNode(
                    "服饰",
                    children=(
                        TaxonomyNode("女装", children=(TaxonomyNode("连衣裙"), TaxonomyNode("半身裙"))),
                        TaxonomyNode("男装"),
                    ),
                ),
                TaxonomyNode("家居", alias="home", children=(TaxonomyNode("沙发", alias="sofa"),)),
            ),
            leaves_only=True,
            title="描述",
            required=True,
        ),
        ChoicesField(
            "style",
            "image",
            (Choice("简约"), Choice("复古"), Choice("甜美")),
            multiple=True,
            title="描述",
            required=True,
        ),
        ChoicesField("season", "image", (Choice("夏季", "summer"), Choice("冬季")), title="描述"),
        RatingField("quality", "image", title="描述"),
        NumberField("price", "image", 0, 99.5, 0.5, title="描述"),
    )
    assert schema.review == ReviewControls("image", "needs_review", Choice("需人工复核", "review"), "review_reason")


def test_the_table_of_supported_tags_names_the_tags_that_are_built() -> None:
    assert [row.tag for row in supported_tags()] == ["TextArea", "Choices", "Taxonomy", "Rating", "Number"]


def test_aliases_are_those_label_studio_stores() -> None:
    stored = LabelInterface(EVERYTHING).get_control("season").labels
    field = parse_label_config(EVERYTHING).field("season")
    assert isinstance(field, ChoicesField)
    assert [c.stored for c in field.choices] == stored == ["summer", "冬季"]


def test_titles_come_from_the_header_above_or_the_tag_itself() -> None:
    xml = view(
        "<View><Header value='类目'/></View>",
        CAPTION,
        "<View><Header value='风格'/><Style>.a{}</Style>" + choices("a") + "<Header value='$dynamic'/>",
        '<Rating name="r" toName="image"/></View>',
        '<Header value="不用"/><Number name="n" toName="image" title="价格"/>',
    )
    assert [field.title for field in parse_label_config(xml).fields] == ["", "风格", "价格"]


def test_attributes_are_read_without_regard_to_case() -> None:
    xml = view(
        '<choices name="a" toName="image" CHOICE="Multiple" REQUIRED="True" Hint=" 看颜色 ">'
        '<choice value="x" ALIAS="y" hint="h"/></choices>',
        '<TextArea name="b" toName="image" maxLength="200"/>',
        '<Taxonomy name="c" toName="image" leafsonly="true" maxusages="3"><Choice value="t"/></Taxonomy>',
    )
    assert parse_label_config(xml).fields == (
        ChoicesField("a", "image", (Choice("x", "y", "h"),), multiple=True, hint="看颜色", required=True),
        TextField("b", "image", max_chars=200),
        TaxonomyField("c", "image", (TaxonomyNode("t"),), leaves_only=True, max_usages=3),
    )


def test_label_studio_takes_predictions_for_lower_case_choices() -> None:
    xml = view('<Choices name="a" toName="image"><choice value="x"/></Choices>')
    region = {"from_name": "a", "to_name": "image", "type": "choices", "value": {"choices": ["x"]}}
    assert parse_label_config(xml).fields[0].name == "a"
    assert LabelInterface(xml).validate_prediction({"result": [region]})


LEFT_OUT = {
    "drawing tool": ('<Brush name="x" toName="image"/>', "only TextArea, Choices"),
    "boxes": ('<RectangleLabels name="x" toName="image"><Label value="a"/></RectangleLabels>', "only TextArea"),
    "unknown tag": ('<Fancy name="x" toName="image"/>', "only TextArea, Choices, Taxonomy, Rating, Number"),
    "control of regions": ('<TextArea name="x" toName="image" perRegion="true"/>', "regions"),
    "control in a view of regions": (
        '<View visibleWhen="region-selected"><Rating name="x" toName="image"/></View>',
        "regions",
    ),
    "control of pages": ('<Rating name="x" toName="image" perItem="true"/>', "pages"),
    "choices from task data": ('<Choices name="x" toName="image" value="$labels"/>', "task data"),
    "taxonomy from task data": ('<Taxonomy name="x" toName="image" value="$labels"/>', "task data"),
    "taxonomy from a server": ('<Taxonomy name="x" toName="image" apiUrl="http://a/b"/>', "apiUrl"),
    "a label from task data": (choices("a", "$b", name="x"), "task data"),
    "a taxonomy label from task data": (
        f'<Taxonomy name="x" toName="image">{choice("a", inner=choice("in $b"))}</Taxonomy>',
        "task data",
    ),
    "a label that is a token with a meaning": (choices("a", "<|im_end|>", name="x"), "<|im_end|>"),
    "a label that holds one": (choices("a", "b <|image_pad|>", name="x"), "sign of their own"),
    "a taxonomy label that holds one": (
        f'<Taxonomy name="x" toName="image">{choice("a", inner=choice("<|im_start|>user"))}</Taxonomy>',
        "<|im_start|>",
    ),
    "a path that holds one": (choices("a/<|x|>", name="x", attributes='pathSeparator="/"'), "<|x|>"),
    "nested choices": (
        f'<Choices name="x" toName="image">{choice("a", inner=choice("b"))}</Choices>',
        "nested",
    ),
    "allowNested": (choices("a", name="x", attributes='allowNested="true"'), "allowNested"),
    "no choices": ('<Choices name="x" toName="image"/>', "no choices"),
    "no tree": ('<Taxonomy name="x" toName="image"/>', "no choices"),
    "control of a text": ('<Text name="t" value="$t"/><Rating name="x" toName="t"/>', "points at <Text>"),
    "control of two objects": ('<Text name="t" value="$t"/><Rating name="x" toName="image,t"/>', "several objects"),
    "repeated control": ('<Repeater on="$a"><Rating name="x" toName="image"/></Repeater>', "Repeater"),
    "control of a multi-page image": ('<Image name="p" valueList="$p"/><Rating name="x" toName="p"/>', "valueList"),
    "control of a second image": ('<Image name="i2" value="$i2"/><Rating name="x" toName="i2"/>', 'image "i2"'),
    "an empty number range": ('<Number name="x" toName="image" min="0.001" max="0.002"/>', "no number"),
    "too fine a step": ('<Number name="x" toName="image" step="3"/>', "step=3 gives more than 10,000 numbers"),
}


@pytest.mark.parametrize(("control", "reason"), LEFT_OUT.values(), ids=LEFT_OUT.keys())
def test_a_control_that_cannot_be_filled_is_left_out_by_name(control: str, reason: str) -> None:
    schema = parse_label_config(f"<View><View>{IMAGE}{CAPTION}</View><View>{control}</View></View>")
    assert [field.name for field in schema.fields] == ["caption"]
    assert (
        len([warning for warning in schema.warnings if 'name="x"> is left out' in warning and reason in warning]) == 1
    )


def test_warnings_are_no_part_of_the_fingerprint() -> None:
    with_brush = parse_label_config(view(CAPTION, '<Brush name="x" toName="image"/>'))
    assert with_brush.fingerprint == parse_label_config(view(CAPTION)).fingerprint


def test_a_control_under_a_condition_is_filled_but_not_required() -> None:
    xml = view(
        choices("a", "b"),
        '<View visibleWhen="choice-selected" whenTagName="style" whenChoiceValue="a">'
        '<Rating name="x" toName="image" required="true"/></View>',
    )
    schema = parse_label_config(xml)
    assert not schema.field("x").required
    assert "only under a condition" in schema.warnings[0]


def test_of_two_images_the_one_with_controls_is_taken() -> None:
    xml = '<View><View><Image name="logo" value="$logo"/><Brush name="b" toName="logo"/></View>'
    xml += f'<View><Image name="image" value="$photo"/>{CAPTION}</View></View>'
    schema = parse_label_config(xml)
    assert (schema.image_name, schema.image_key) == ("image", "photo")
    assert any('2 images; the model sees "image" only' in warning for warning in schema.warnings)


REFUSED = {
    "no control": (view(), "nothing to fill"),
    "only a review flag": (view(choices("需人工复核", name="needs_review")), "nothing to fill"),
    "only a brush": (view('<Brush name="x" toName="image"/>'), '<Brush name="x"> is left out'),
    "no image": ('<View><Text name="image" value="$t"/><Rating name="x" toName="image"/></View>', "no <Image> tag"),
    "a key the editor cannot read": ('<View><Image name="image" value="$图片"/>' + CAPTION + "</View>", "names no key"),
    "image of one file": ('<View><Image name="image" value="a.png"/>' + CAPTION + "</View>", 'needs value="$key"'),
    "two tags of one name": (view(CAPTION, CAPTION), 'Two tags have name="caption"'),
    "name of the image": (view('<Rating name="image" toName="image"/>'), 'Two tags have name="image"'),
    "dangling toName": (view('<Rating name="x" toName="picture"/>'), 'toName="picture", but no tag has that name'),
    "toName with a space": (view('<Text name="t" value="$t"/><Rating name="x" toName="image, t"/>'), 'toName=" t"'),
    "no name": (view('<Rating toName="image"/>'), "A <Rating> tag has no name"),
    "no toName": (view('<Rating name="x"/>'), "has no toName"),
    "the same label twice": (view(choices("a", "b", "a")), 'label "a" twice'),
    "labels equal but for white space": (view(choices("a", " a")), 'label "a" twice'),
    "the same alias twice": (
        view(f'<Choices name="x" toName="image">{choice("a", "z")}{choice("b", "z")}</Choices>'),
        'label "z" twice',
    ),
    "an alias that is another label": (
        view(f'<Choices name="x" toName="image">{choice("a", "b")}{choice("b")}</Choices>'),
        'label "b" twice',
    ),
    "the same branch twice": (
        view(f'<Taxonomy name="x" toName="image">{choice("a")}{choice("a")}</Taxonomy>'),
        'label "a" twice',
    ),
    "a name that is a token with a meaning": (
        view('<Rating name="&lt;|im_end|&gt;" toName="image"/>'),
        "name it otherwise",
    ),
    "a label without text": (view(choices(" ")), "without a value"),
    "two spellings of Choice": (
        view('<Choices name="x" toName="image"><Choice value="a"/><choice value="b"/></Choices>'),
        "mixes <Choice>",
    ),
    "unknown kind of choice": (view(choices("a", attributes='choice="some"')), 'choice="some" is unknown'),
    "stars without number": (view('<Rating name="x" toName="image" maxRating="many"/>'), 'maxrating="many"'),
    "no stars": (view('<Rating name="x" toName="image" maxRating="0"/>'), "whole number from 1 to 100"),
    "not a number": (view('<Number name="x" toName="image" max="inf"/>'), 'max="inf" is not a number'),
    "min above max": (view('<Number name="x" toName="image" min="3" max="2"/>'), "min is above max"),
    "step of nothing": (view('<Number name="x" toName="image" step="0"/>'), "step must be above 0"),
    "too many controls": (
        view(*(f'<Rating name="r{n}" toName="image"/>' for n in range(51))),
        "51 controls to fill; the limit is 50",
    ),
    "too many labels in paths": (
        view(
            *(
                choices(*(f"{n}{'/a' * 48}" for n in range(103)), name=f"c{k}", attributes='pathSeparator="/"')
                for k in range(4)
            )
        ),
        "paths of 20,188 labels; the limit is 20,000 in all",
    ),
    "too many labels": (view(choices(*map(str, range(20_001)))), "20,001 labels; the limit is 20,000"),
}


@pytest.mark.parametrize(("xml", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_config_that_contradicts_itself_is_refused_with_the_reason(xml: str, message: str) -> None:
    with pytest.raises(UnsupportedConfig) as refused:
        parse_label_config(xml)
    assert message in str(refused.value)


def test_the_same_label_may_stand_in_two_branches() -> None:
    tree = choice("女装", inner=choice("T恤")) + choice("男装", inner=choice("T恤"))
    field = parse_label_config(view(f'<Taxonomy name="x" toName="image">{tree}</Taxonomy>')).fields[0]
    assert isinstance(field, TaxonomyField)
    assert len(list(field.paths())) == 4


@pytest.mark.parametrize(
    "label",
    ['"', "'", "\\", "/", "<b>&amp;</b>", "a\nb", "a\tb", "😀👩‍👩‍👧", "שלום", "\u202eabc", "\x80x",
     "字" * 300, "100$", "$ 5"],
    ids=["quote", "apostrophe", "backslash", "slash", "markup", "line break", "tab", "emoji", "right to left",
         "direction override", "C1 control", "300 characters", "dollar at the end", "dollar alone"],
)  # fmt: skip
def test_a_label_is_kept_to_the_character(label: str) -> None:
    field = parse_label_config(view(choices(label))).fields[0]
    assert isinstance(field, ChoicesField)
    assert field.choices == (Choice(label),)


@pytest.mark.parametrize("attributes", ['value="{}"', 'value="a" alias="{}"'], ids=["label", "alias"])
@pytest.mark.parametrize(("text", "fits"), [("x" * 998, True), ("x" * 999, False), ("世" * 333, False)])
def test_a_label_that_is_too_long_to_stand_in_each_answer_leaves_its_control_out(
    attributes: str, text: str, fits: bool
) -> None:
    long = f'<Choices name="c" toName="image"><Choice {attributes.format(text)}/><Choice value="b"/></Choices>'
    schema = parse_label_config(view(CAPTION, long))
    assert ("c" in {field.name for field in schema.fields}) is fits
    assert any("the limit is 1,000" in said for said in schema.warnings) is not fits


def test_ten_thousand_labels_are_read() -> None:
    xml = view(choices(*(f"连衣裙-夏季新款-{number:05d}" for number in range(10_000))))
    field = parse_label_config(xml).fields[0]
    assert isinstance(field, ChoicesField)
    assert len(field.choices) == 10_000
