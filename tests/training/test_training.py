"""The training script, from the dataset's files to a checkpoint that loads, on a dataset of noise."""

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model_loader.loader import load_model
from training import dataset
from training.joint import LABEL_WEIGHT, encode_answer
from training.rules import Looks
from training.train import Plan, build_model, train
from training.variants import shipped_variant
from training.vision import run_tower
from training.vocabulary import train_tokenizer


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "data"
    folder.mkdir()
    for split, count in (("train", 128), ("t10k", 40)):
        write_idx(folder / f"{split}-images-idx3-ubyte.gz", rng.integers(0, 255, (count, 28, 28), np.uint8))
        write_idx(folder / f"{split}-labels-idx1-ubyte.gz", (np.arange(count) % 10).astype(np.uint8))
    return folder


def test_training_writes_a_checkpoint_that_loads(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(Plan(out, data, seed=0, tower_epochs=1, text_epochs=0.8, joint_epochs=0.8, compiled=False))
    loaded = load_model(str(out / "checkpoint"), device="cpu")
    assert loaded.quantisation == "nf4"
    truth = json.loads((out / "pictures" / "labels.json").read_text("utf-8"))
    assert len(truth) == 32
    assert all((out / "pictures" / name).exists() for name in truth)


def test_pictures_and_classes_are_read_in_order(data: Path) -> None:
    pictures, classes = dataset.read_split(data, "t10k")
    assert pictures.shape == (40, 28, 28)
    assert classes.tolist() == [i % 10 for i in range(40)]


def test_a_file_that_is_not_idx_is_refused(data: Path) -> None:
    (data / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"\x00\x01\x02\x03"))
    with pytest.raises(ValueError, match="not an IDX file"):
        dataset.read_split(data, "train")


@pytest.mark.parametrize("grid", [(8, 8), (10, 6), (6, 10)], ids=["square", "tall", "wide"])
def test_the_batched_tower_computes_what_the_stock_one_does(grid: tuple[int, int]) -> None:
    torch.manual_seed(0)
    tower = build_model(train_tokenizer(["看图"])).model.visual
    pictures = torch.rand(2, 1, grid[0] * 4, grid[1] * 4) * 2 - 1
    patches, found = dataset.to_patches(pictures)
    assert found == grid
    with torch.no_grad():
        stock = tower(patches, torch.tensor([[1, *grid]] * 2))
        tokens, deepstack = run_tower(tower, patches, grid)
    torch.testing.assert_close(tokens.flatten(0, 1), stock.pooler_output, atol=1e-5, rtol=1e-5)
    for ours, theirs in zip(deepstack, stock.deepstack_features, strict=True):
        torch.testing.assert_close(ours.flatten(0, 1), theirs, atol=1e-5, rtol=1e-5)


def test_augmenting_keeps_shape_and_range() -> None:
    pictures = torch.rand(32, 1, 32, 32) * 2 - 1
    seen = dataset.augment(pictures, torch.Generator().manual_seed(0))
    assert seen.shape == pictures.shape
    assert float(seen.min()) >= -1.0
    assert float(seen.max()) <= 1.0


def test_label_tokens_weigh_most_and_the_caption_comes_after_them() -> None:
    variant = shipped_variant("zh")
    text = variant.answer(3, Looks(0, True, False), 0)
    tokenizer = train_tokenizer([text] * 40)
    answer = encode_answer(tokenizer, text, variant.label_strings(3))
    heavy = [tokenizer.decode([i]) for i, w in zip(answer.ids, answer.weights, strict=True) if w == LABEL_WEIGHT]
    assert "".join(heavy) == "".join(variant.label_strings(3))
    assert LABEL_WEIGHT not in answer.weights[answer.num_label_tokens :]
    assert "caption" in tokenizer.decode(answer.ids[: answer.num_label_tokens])
