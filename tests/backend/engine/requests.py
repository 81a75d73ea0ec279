"""Requests for a random model: schemas of several shapes, noise for pictures."""

import random

from backend.engine.messages import Picture, Sampling, Submit
from label_config.prompt import build_instruction
from label_config.schema import (
    Choice,
    ChoicesField,
    LabelSchema,
    NumberField,
    RatingField,
    TaxonomyField,
    TaxonomyNode,
    TextField,
)

CLOTHES = LabelSchema(
    (
        TextField("caption", "image"),
        TaxonomyField(
            "category",
            "image",
            (
                TaxonomyNode("服饰", children=(TaxonomyNode("上装"), TaxonomyNode("下装"))),
                TaxonomyNode("鞋"),
            ),
            leaves_only=True,
            required=True,
        ),
        ChoicesField("style", "image", (Choice("简约"), Choice("户外"), Choice('"quoted"')), required=True),
        ChoicesField("scene", "image", (Choice("通勤"), Choice("居家"), Choice("户外")), multiple=True),
    ),
    "image",
    "image",
)
LABELS_ONLY = LabelSchema((RatingField("stars", "pic"), NumberField("price", "pic", 0, 99)), "pic", "photo")
GREEDY = Sampling(max_new_tokens=80, temperature=0.0)


def submit(
    request_id: int,
    schema: LabelSchema = CLOTHES,
    *,
    size: tuple[int, int] = (32, 32),
    sampling: Sampling = GREEDY,
    **options: bool,
) -> Submit:
    noise = random.Random(request_id).randbytes(size[0] * size[1] * 3)
    return Submit(
        request_id=request_id,
        schema=schema,
        instruction=build_instruction(schema),
        picture=Picture(*size, noise),
        sampling=sampling,
        text_max_chars=20,
        **options,
    )


MIXED = [
    submit(1, CLOTHES),
    submit(2, LABELS_ONLY, size=(64, 16)),
    submit(3, CLOTHES, size=(16, 64)),
    submit(4, LABELS_ONLY),
    submit(5, CLOTHES, size=(300, 200)),
    submit(6, CLOTHES, size=(20, 90), sampling=Sampling(max_new_tokens=30, temperature=0.0)),
    submit(7, LABELS_ONLY, size=(1, 1)),
]
