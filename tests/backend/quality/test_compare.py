"""An answer beside the right one, for every kind of field."""

from __future__ import annotations

import pytest

from backend.quality.compare import Compared, Overlap, compared
from label_config.answer import FieldValue
from label_config.schema import Choice, ChoicesField, NumberField, RatingField, TaxonomyField, TaxonomyNode, TextField

ONE = ChoicesField("season", "image", (Choice("夏"), Choice("冬")))
SEVERAL = ChoicesField("style", "image", (Choice("a"), Choice("b"), Choice("c")), multiple=True)
TREE = TaxonomyField("category", "image", (TaxonomyNode("服饰", children=(TaxonomyNode("裙"), TaxonomyNode("衣"))),))
TREES = TaxonomyField("tags", "image", TREE.roots, max_usages=2)
TEXT = TextField("caption", "image")
STARS, NUMBER = RatingField("stars", "image"), NumberField("price", "image")
SKIRT, COAT = ("服饰", "裙"), ("服饰", "衣")


@pytest.mark.parametrize(
    ("field", "answer", "truth", "result"),
    [
        (ONE, ("夏",), ("夏",), Compared(True, pair=("夏", "夏"))),
        (ONE, ("夏",), ("冬",), Compared(False, pair=("夏", "冬"))),
        (ONE, None, ("冬",), Compared(False, pair=("", "冬"))),
        (ONE, ("夏",), None, Compared(False, pair=("夏", ""))),
        (ONE, None, None, Compared(True, pair=("", ""))),
        (SEVERAL, ("a", "b"), ("b", "a"), Compared(True, Overlap(2, 2, 2))),
        (SEVERAL, ("a", "b"), ("b", "c"), Compared(False, Overlap(1, 2, 2))),
        (SEVERAL, None, ("c",), Compared(False, Overlap(0, 0, 1))),
        (TREE, (SKIRT,), (SKIRT,), Compared(True, Overlap(2, 2, 2), (True, True), pair=("服饰 / 裙", "服饰 / 裙"))),
        (TREE, (SKIRT,), (COAT,), Compared(False, Overlap(1, 2, 2), (True, False), pair=("服饰 / 裙", "服饰 / 衣"))),
        (TREE, (("服饰",),), (COAT,), Compared(False, Overlap(1, 1, 2), (True, False), pair=("服饰", "服饰 / 衣"))),
        (TREE, None, (COAT,), Compared(False, Overlap(0, 0, 2), (False, False), pair=("", "服饰 / 衣"))),
        (TREE, (COAT,), None, Compared(False, Overlap(0, 2, 0), pair=("服饰 / 衣", ""))),
        (TREE, (SKIRT,), (SKIRT, COAT), Compared(False, Overlap(2, 2, 3))),
        (ONE, ("夏",), ("夏", "冬"), Compared(False)),
        (TREES, (SKIRT, COAT), (COAT,), Compared(False, Overlap(2, 3, 2))),
        (TEXT, "红色连衣裙", "红色连衣裙", Compared(True, kept=1.0)),
        (TEXT, "红裙", "蓝裙", Compared(False, kept=0.5)),
        (TEXT, None, "裙", Compared(False, kept=0.0)),
        (TEXT, "裙", None, Compared(False, kept=0.0)),
        (TEXT, None, "", Compared(True, kept=1.0)),
        (STARS, 4, 2, Compared(False, error=2)),
        (NUMBER, 1.5, 1.5, Compared(True, error=0.0)),
        (NUMBER, None, 1.5, Compared(False)),
    ],
)
def test_each_kind_of_field_says_what_it_can(
    field: TextField | ChoicesField | TaxonomyField | RatingField | NumberField,
    answer: FieldValue,
    truth: FieldValue,
    result: Compared,
) -> None:
    assert compared(field, answer, truth) == result


@pytest.mark.parametrize("label", ["裙", "夏"])
def test_what_cannot_be_seen_of_a_text_is_no_correction(label: str) -> None:
    assert compared(TEXT, f"{label}\u200b ", label).is_right
