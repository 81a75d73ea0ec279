"""A checkpoint as the hub has Qwen3-VL's: real tensor names, tokenizer and vocabulary, only narrow and shallow.

It is packed, saved, read again without the original, and answers a ready-made label config in `prelabel annotate`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import Qwen3VLMoeConfig

from backend.predict.record import PATH_SEPARATOR
from benchmarks.qwen_vocabulary import FOLDER
from label_config.parse import parse_label_config
from label_config.ready_made import ready_made
from label_config.schema import TaxonomyField
from model_loader.geometry import DEFAULT_MODEL, shipped_config
from model_loader.loader import LoadedModel, load_model
from tests.backend.bulk.given import annotate, lines
from tests.backend.bulk.test_real_model import GARMENTS
from tests.model_loader.checkpoints import PREPROCESSOR, tiny_model, write_checkpoint

pytestmark = pytest.mark.slow

NARROW_TEXT = {"hidden_size": 64, "moe_intermediate_size": 128, "num_hidden_layers": 2, "num_experts": 16}
NARROW_HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
NARROW_VISION = {"depth": 4, "hidden_size": 64, "intermediate_size": 128, "num_heads": 4, "out_hidden_size": 64}


def narrow_config() -> Qwen3VLMoeConfig:
    shipped = shipped_config(DEFAULT_MODEL)
    assert shipped is not None
    text = shipped["text_config"] | NARROW_TEXT | NARROW_HEADS
    vision = shipped["vision_config"] | NARROW_VISION | {"deepstack_visual_indexes": [1, 2, 3]}
    return Qwen3VLMoeConfig(**shipped | {"text_config": text, "vision_config": vision})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_checkpoint(tmp_path_factory.mktemp("hub") / "qwen", tiny_model(narrow_config()), hub_layout=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(FOLDER / name, folder / name)
    sizes = {"patch_size": 16, "size": {"shortest_edge": 65_536, "longest_edge": 16_777_216}}
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR | sizes), "utf-8")
    return folder


def test_it_is_packed_saved_read_again_and_answers(checkpoint: Path, tmp_path: Path) -> None:
    first = _load(checkpoint, tmp_path)
    shutil.rmtree(checkpoint)  # from here on there is only the copy
    second = _load(checkpoint, tmp_path)
    assert second.weights_id == first.weights_id
    tensors, again = first.model.state_dict(), second.model.state_dict()
    assert tensors.keys() == again.keys()
    assert [name for name in tensors if not torch.equal(tensors[name], again[name])] == []
    assert tensors["model.language_model.layers.1.mlp.experts.gate_up_proj"].dtype == torch.uint8
    assert tensors["model.visual.blocks.3.attn.qkv.weight"].dtype == torch.float32

    (tmp_path / "pictures").mkdir()
    for source in sorted(GARMENTS.glob("*.png"))[:2]:
        shutil.copy(source, tmp_path / "pictures")
    result = annotate(tmp_path, "--label-config", "ecommerce.zh", model=str(checkpoint))
    assert result.returncode == 0, result.stderr
    category = parse_label_config(ready_made("ecommerce.zh")).field("category")
    assert isinstance(category, TaxonomyField)
    paths = {PATH_SEPARATOR.join(node.value for node in path) for path in category.paths()}
    records = lines(tmp_path / "out.jsonl")
    assert len(records) == 2
    assert {record["fields"]["category"] for record in records} <= paths


def _load(checkpoint: Path, data: Path) -> LoadedModel:
    return load_model(str(checkpoint), device="cpu", save_quantised_to=data / "data" / "quantised")
