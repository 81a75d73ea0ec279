"""The ready-made label configs: Label Studio takes them, and they hold what they promise."""

from __future__ import annotations

import pytest
from label_studio_sdk.label_interface import LabelInterface

from label_config.errors import UnsupportedConfig
from label_config.parse import parse_label_config
from label_config.ready_made import ready_made, ready_made_names
from label_config.schema import ChoicesField, LabelSchema, TaxonomyField

NAMES = ready_made_names()


def _tree(schema: LabelSchema) -> TaxonomyField:
    field = schema.field("category")
    assert isinstance(field, TaxonomyField)
    return field


def _labels(schema: LabelSchema, name: str) -> list[str]:
    field = schema.field(name)
    assert isinstance(field, ChoicesField)
    return [choice.value for choice in field.choices]


@pytest.mark.parametrize("name", NAMES)
def test_a_ready_made_config_is_valid_and_filled_completely(name: str) -> None:
    xml = ready_made(name)
    LabelInterface(xml).validate()
    schema = parse_label_config(xml)
    assert schema.warnings == ()
    assert [field.name for field in schema.fields] == ["caption", "category", "style", "season", "scene"]
    assert all(field.title and field.required for field in schema.fields)
    assert (schema.image_name, schema.image_key) == ("image", "image")
    review = schema.review
    assert review is not None
    assert (review.flag_name, review.reason_name) == ("needs_review", "review_reason")
    assert review.flag is not None
    assert name.endswith("en") or review.flag.value == "需人工复核"


@pytest.mark.parametrize("name", ["ecommerce.zh", "ecommerce.en"])
def test_the_product_taxonomy_is_deep_and_broad(name: str) -> None:
    schema = parse_label_config(ready_made(name))
    paths = list(_tree(schema).paths())
    assert len([path for path in paths if len(path) == 3]) >= 60
    assert len({path[0] for path in paths}) == 11
    assert paths[-1][0].value in ("其他", "Other"), "for a product that none of the ten branches knows"
    assert len(_labels(schema, "style")) >= 10
    assert len(_labels(schema, "season")) == 5
    assert len(_labels(schema, "scene")) >= 10


def test_both_languages_have_the_same_shape() -> None:
    zh, en = (parse_label_config(ready_made(f"ecommerce.{language}")) for language in ("zh", "en"))

    def shape(schema: LabelSchema) -> list[int]:
        return [len(node.children) for path in _tree(schema).paths() for node in path]

    assert shape(zh) == shape(en)
    assert _labels(zh, "season")[-1] == "四季"
    assert _labels(en, "season")[-1] == "All-season"
    for name in ("style", "scene"):
        assert len(_labels(zh, name)) == len(_labels(en, name))


@pytest.mark.parametrize("name", NAMES)
def test_image_and_controls_stand_side_by_side(name: str) -> None:
    xml = ready_made(name)
    assert 'style="display: flex; flex-direction: row;' in xml
    assert "position: sticky; top: 0;" in xml


@pytest.mark.parametrize("name", ["ecommerce", "", "../schema", "ecommerce.fr"])
def test_an_unknown_name_is_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(UnsupportedConfig, match=r"ecommerce\.en, ecommerce\.zh, garments\.en, garments\.zh"):
        ready_made(name)
