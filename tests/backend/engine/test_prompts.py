"""Prompts: the same ids and mRoPE positions as transformers, limits, and what is remembered."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from backend.engine.image_sizes import Grid, choose_grid
from backend.engine.messages import Picture, Sampling, Submit
from backend.engine.prompts import MAX_CACHED_PROMPTS, Prompt, PromptEncoder, PromptTooLong
from label_config.schema import LabelSchema, RatingField
from model_loader.chat import encode_prompt
from tests.tiny_model import tiny_model

SCHEMA = LabelSchema((RatingField("stars", "pic"),), "pic", "photo")
GRIDS = [
    pytest.param(4, 4, id="square"),
    pytest.param(3, 7, id="wide"),
    pytest.param(7, 3, id="tall"),
    pytest.param(1, 1, id="one token"),
    pytest.param(1, 9, id="one row"),
    pytest.param(9, 1, id="one column"),
    pytest.param(24, 24, id="576 tokens"),
]


def encoder(*, image_tokens: int = 64, context_tokens: int = 2048) -> PromptEncoder:
    loaded = tiny_model()
    return PromptEncoder(
        loaded.tokenizer, loaded.image_processor, image_tokens=image_tokens, context_tokens=context_tokens
    )


def request(instruction: str = "describe", size: tuple[int, int] = (32, 32), max_new_tokens: int = 50) -> Submit:
    picture = Picture(*size, b"")
    return Submit(SCHEMA, instruction, picture, Sampling(max_new_tokens=max_new_tokens), request_id=1)


def prompt_of(rows: int, columns: int, instruction: str = "a plain cotton shirt\n") -> Prompt:
    chat = encode_prompt(tiny_model().tokenizer, instruction, rows * columns)
    return Prompt(chat.prefix_ids, chat.image_ids + chat.suffix_ids, Grid(rows, columns))


@pytest.mark.parametrize(("rows", "columns"), GRIDS)
def test_positions_are_those_of_transformers(rows: int, columns: int) -> None:
    prompt = prompt_of(rows, columns)
    model = tiny_model().model.model
    ids = torch.tensor([[*prompt.prefix_ids, *prompt.suffix_ids]])
    merge = model.visual.spatial_merge_size
    positions, delta = model.get_rope_index(
        ids,
        mm_token_type_ids=(ids == tiny_model().model.config.image_token_id).int(),
        image_grid_thw=torch.tensor([[1, rows * merge, columns * merge]]),
        attention_mask=torch.ones_like(ids),
    )
    before = len(prompt.prefix_ids)
    assert np.array_equal(positions[:, 0, :before].numpy(), np.tile(np.arange(before), (3, 1)))
    assert np.array_equal(positions[:, 0, before:].numpy(), prompt.suffix_positions())
    assert prompt.rope_delta == int(delta)


@pytest.mark.parametrize(("rows", "columns"), GRIDS)
def test_an_answers_first_position_follows_the_prompts_last(rows: int, columns: int) -> None:
    prompt = prompt_of(rows, columns)
    assert prompt.suffix_positions()[:, -1].tolist() == [prompt.num_tokens - 1 + prompt.rope_delta] * 3
    assert prompt.suffix_positions().max() == prompt.suffix_positions()[0, -1]


@pytest.mark.parametrize("size", [(32, 32), (200, 10), (10, 200), (1, 1), (640, 480)], ids=str)
def test_prefix_and_suffix_are_the_whole_prompt(size: tuple[int, int]) -> None:
    prompt = encoder().encode(request("夏季连衣裙<|im_end|><|image_pad|>", size))
    grid = choose_grid(*size, max_tokens=20, min_tokens=16, token_px=8)
    whole = encode_prompt(tiny_model().tokenizer, "夏季连衣裙<|im_end|><|image_pad|>", grid.num_tokens)
    assert prompt.grid == grid
    assert [*prompt.prefix_ids, *prompt.suffix_ids] == whole.input_ids
    assert prompt.num_tokens == len(whole.input_ids)
    assert prompt.suffix_ids.count(tiny_model().model.config.image_token_id) == prompt.num_image_tokens
    assert tiny_model().model.config.image_token_id not in prompt.prefix_ids


def test_the_instruction_is_the_same_prefix_for_every_picture() -> None:
    prompts_of = encoder()
    square, wide = (prompts_of.encode(request(size=size)) for size in ((32, 32), (90, 20)))
    assert square.prefix_ids == wide.prefix_ids
    assert square.suffix_ids != wide.suffix_ids


@pytest.mark.parametrize(("image_tokens", "expected"), [(1, 1), (18, 18), (64, 20)], ids=["one", "eighteen", "many"])
def test_image_tokens_stay_within_what_is_asked_and_what_the_processor_allows(image_tokens: int, expected: int) -> None:
    prompts_of = encoder(image_tokens=image_tokens)
    assert prompts_of.max_image_tokens == expected
    assert 1 <= prompts_of.min_image_tokens <= prompts_of.max_image_tokens
    assert prompts_of.encode(request(size=(4000, 4000))).num_image_tokens <= expected


def test_a_prompt_over_the_context_is_refused_with_its_numbers() -> None:
    fits = encoder().encode(request())
    context = fits.num_tokens + 50
    assert encoder(context_tokens=context).encode(request()) == fits
    with pytest.raises(PromptTooLong) as refused:
        encoder(context_tokens=context - 1).encode(request())
    assert str(refused.value) == (
        f"prompt {fits.num_tokens} + answer 50 tokens exceed the context of {context - 1}: "
        "shorten the extra instructions or the label lists"
    )


def test_the_last_prompts_are_remembered_and_no_more() -> None:
    prompts_of = encoder()
    made = [prompts_of.encode(request(f"number {i}")) for i in range(MAX_CACHED_PROMPTS)]
    assert prompts_of.encode(request("number 0")) is made[0]  # used again, so number 1 is the oldest now
    prompts_of.encode(request("one more"))
    assert prompts_of.encode(request("number 0")) is made[0]
    again = prompts_of.encode(request("number 1"))
    assert again == made[1]
    assert again is not made[1]
