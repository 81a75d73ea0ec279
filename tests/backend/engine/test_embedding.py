"""The token embedding where the head leaves it: off the device, row by row onto it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from backend.engine.embedding import embed, keep_on_host
from tests.tiny_model import tiny_model

IDS = np.array([5, 0, 5, 240])


def test_rows_are_those_of_the_matrix_in_the_order_of_the_ids() -> None:
    language_model = tiny_model().model.model.language_model
    rows = embed(language_model, IDS, "cpu")
    torch.testing.assert_close(rows, language_model.embed_tokens.weight[IDS], rtol=0, atol=0)


def test_rows_go_to_another_device_than_the_matrix_is_on() -> None:
    language_model = tiny_model(role="embedding").model.model.language_model
    keep_on_host(language_model)
    assert embed(language_model, IDS, "meta").device.type == "meta"
    assert language_model.embed_tokens.weight.device.type == "cpu"


@pytest.mark.gpu
@torch.inference_mode()
def test_rows_from_the_host_are_those_from_the_card() -> None:
    table = torch.nn.Module()
    table.embed_tokens = torch.nn.Embedding(151_936, 2048, device="cuda", dtype=torch.bfloat16)
    expected = embed(table, IDS, "cuda")
    keep_on_host(table)
    torch.testing.assert_close(embed(table, IDS, "cuda"), expected, rtol=0, atol=0)
