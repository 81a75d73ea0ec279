"""Packing streams: never more in memory than the packed model and two unpacked tensors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration

from model_loader.checkpoint import INDEX_NAME, read_checkpoint
from tests.limits import TEST_S
from tests.model_loader.checkpoints import tiny_config, write_small_files

MIB = 2**20
# One expert's scratch while packing (4 float32 copies of 3.7 MB), the two small vision layers' buffers, the
# tokenizer, Python objects and what glibc keeps in its arenas.
CONSTANT_BYTES = 160 * MIB


MANY_SMALL = tiny_config(hidden=1024, inner=256, num_experts=32, num_hidden_layers=10)
AS_LARGE_AS_THE_30B = tiny_config(hidden=2048, inner=448, num_experts=128, num_hidden_layers=3, num_experts_per_tok=8)


def write_big_checkpoint(folder: Path, config: Qwen3VLMoeConfig) -> int:
    """Write the layers of `config` in the hub's layout, a shard a layer, from one repeated random block.

    Returns the number of bytes of experts.
    """
    folder.mkdir()
    with torch.device("meta"):
        shapes = {n: tuple(v.shape) for n, v in Qwen3VLMoeForConditionalGeneration(config).state_dict().items()}
    shapes = {n: (s[0], s[2], s[1]) if ".mlp.experts." in n else s for n, s in shapes.items()}
    noise = (torch.randn(2**21, generator=torch.Generator().manual_seed(0)) * 0.02).bfloat16()
    block = noise.view(torch.uint8).numpy().tobytes()
    weight_map: dict[str, str] = {}
    shards = _shards(sorted(shapes), config.text_config.num_hidden_layers)
    for index, names in enumerate(shards):
        file = f"model-{index + 1:05}-of-{len(shards):05}.safetensors"
        _write_shard(folder / file, {name: shapes[name] for name in names}, block)
        weight_map |= dict.fromkeys(names, file)
    (folder / INDEX_NAME).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), "utf-8")
    (folder / "config.json").write_text(json.dumps(config.to_dict(), default=str), "utf-8")
    write_small_files(folder)
    return sum(torch.Size(shape).numel() * 2 for name, shape in shapes.items() if ".mlp.experts." in name)


def _shards(names: list[str], num_layers: int) -> list[list[str]]:
    layers = [[name for name in names if f"language_model.layers.{layer}." in name] for layer in range(num_layers)]
    return [*layers, [name for name in names if "language_model.layers." not in name]]


def _write_shard(file: Path, shapes: dict[str, tuple[int, ...]], block: bytes) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        size = torch.Size(shape).numel() * 2
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for start in range(0, end, len(block)):
            out.write(block[: end - start])


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        pytest.param(MANY_SMALL, id="half a gigabyte in small tensors"),
        pytest.param(AS_LARGE_AS_THE_30B, id="two gigabytes in large tensors", marks=pytest.mark.soak),
    ],
)
def test_loading_holds_the_packed_model_and_two_tensors(tmp_path: Path, config: Qwen3VLMoeConfig) -> None:
    expert_bytes = write_big_checkpoint(tmp_path / "big", config)
    largest = max(entry.size_bytes for entry in read_checkpoint(tmp_path / "big").tensors.values())
    child = [sys.executable, "-m", "tests.model_loader.peak_memory_child", str(tmp_path / "big")]
    result = subprocess.run(child, capture_output=True, text=True, timeout=TEST_S, check=True)
    seen = json.loads(result.stdout.splitlines()[-1])
    print(f"experts {expert_bytes / MIB:.0f} MiB, largest tensor {largest / MIB:.0f} MiB, {seen}")
    assert seen["packed"] < 0.35 * expert_bytes
    most = seen["packed"] + 2 * largest + CONSTANT_BYTES
    assert most < 0.8 * expert_bytes  # far less than the experts in 16 bits
    assert seen["rise"] <= most
    assert seen["kept"] <= seen["packed"] + CONSTANT_BYTES
