"""The rules behind the garments labels: they fit the label configs, the caption lengths and the pixels."""

import itertools

import numpy as np
import pytest

from label_config.answer import Answer, FieldAnswer
from label_config.review import ReviewOptions, review
from label_config.schema import ChoicesField, TaxonomyField
from training.captions import caption_of
from training.rules import CLASS_NAMES, LABELS, Looks, looks_of
from training.variants import LANGUAGES, Language, random_variant, shipped_schema, shipped_variant

LOOKS = [Looks(t, n, p) for t, n, p in itertools.product(range(3), (False, True), (False, True))]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_rule_gives_labels_of_the_label_config(language: Language) -> None:
    schema = shipped_schema(language)
    category = schema.field("category")
    assert isinstance(category, TaxonomyField)
    leaves = {tuple(node.value for node in path) for path in category.paths()}
    assert len(leaves) > len(CLASS_NAMES)
    assert all(len(path) == 3 for path in leaves)
    assert len({labels.category for labels in LABELS[language]}) == len(CLASS_NAMES)
    for labels in LABELS[language]:
        assert labels.category in leaves
        for name in ("style", "season", "scene"):
            field = schema.field(name)
            assert isinstance(field, ChoicesField)
            assert getattr(labels, name) in {choice.value for choice in field.choices}


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_shipped_label_config_has_review_controls_and_no_warnings(language: Language) -> None:
    schema = shipped_schema(language)
    assert schema.warnings == ()
    assert schema.image_key == "image"
    assert schema.review is not None
    assert schema.review.flag_name
    assert schema.review.reason_name
    assert all(field.required for field in schema.fields)


@pytest.mark.parametrize("class_index", range(10), ids=CLASS_NAMES)
def test_captions_have_the_asked_length_and_pass_review(class_index: int) -> None:
    for looks, template in itertools.product(LOOKS, (0, 1)):
        chinese = caption_of(class_index, looks, template, "zh")
        english = caption_of(class_index, looks, template, "en")
        assert 80 <= len(chinese) <= 120, chinese
        assert 35 <= len(english.split()) <= 60, english
        for language, caption in (("zh", chinese), ("en", english)):
            answer = Answer({"caption": FieldAnswer(caption)})
            found = review(shipped_schema(language), answer, ReviewOptions(language=language))
            assert {finding.field for finding in found} == {"category", "style", "season", "scene"}


def test_tone_follows_the_brightness_of_the_garment_and_not_of_the_background() -> None:
    picture = np.zeros((28, 28), np.uint8)
    picture[10:14, 10:14] = 250
    assert looks_of(picture, 0).tone == 0
    picture[10:14, 10:14] = 40
    assert looks_of(picture, 0).tone == 2


def test_an_empty_picture_has_looks_too() -> None:
    assert looks_of(np.zeros((28, 28), np.uint8), 3) == Looks(1, False, False)


def test_a_variant_answers_in_its_own_field_names_and_order() -> None:
    import json
    import random

    rng = random.Random(5)
    for _ in range(40):
        variant = random_variant(rng)
        answer = json.loads(variant.answer(4, Looks(0, True, False), 0))
        assert list(answer) == [field.name for field in variant.schema.answer_order]
        assert None not in answer.values()


@pytest.mark.parametrize("language", LANGUAGES)
def test_label_strings_stand_in_the_answer_in_order(language: Language) -> None:
    variant = shipped_variant(language)
    text, position = variant.answer(7, Looks(0, True, False), 0), 0
    for label in variant.label_strings(7):
        position = text.index(f'"{label}"', position)
