"""The committed garments checkpoint: complete, mixture-of-experts like the 30B model, and mostly right."""

import json
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, Qwen3VLMoeForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from model_loader.chat import IMAGE_PAD, encode_prompt, special_id
from model_loader.sources import GARMENTS_CHECKPOINT
from training import geometry, joint
from training.rules import CLASS_NAMES, LABELS
from training.variants import Language, shipped_variant

PICTURES = GARMENTS_CHECKPOINT.parent / "pictures"
KNOWN: dict[str, dict[str, Any]] = json.loads((PICTURES / "labels.json").read_text("utf-8"))
TRUTH = {name: entry for name, entry in KNOWN.items() if "part" not in entry}
ALL, ONE_OF_EACH_CLASS = slice(None), slice(1, None, 3)


@pytest.fixture(scope="module")
def model() -> Any:
    model, info = Qwen3VLMoeForConditionalGeneration.from_pretrained(
        GARMENTS_CHECKPOINT, dtype=torch.float32, output_loading_info=True
    )
    assert not any(info.values()), info
    return model.eval()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(GARMENTS_CHECKPOINT)


@pytest.fixture(scope="module")
def processor() -> Any:
    return Qwen2VLImageProcessorPil.from_pretrained(GARMENTS_CHECKPOINT)


def test_the_checkpoint_is_small_and_in_16_bits() -> None:
    assert (GARMENTS_CHECKPOINT / "model.safetensors").stat().st_size < 8_000_000
    assert json.loads((GARMENTS_CHECKPOINT / "config.json").read_text("utf-8"))["dtype"] == "bfloat16"


def test_every_weight_nf4_packs_has_whole_blocks_of_64(model: Any) -> None:
    text = model.model.language_model
    for name, weight in text.named_parameters():
        if "_proj" in name:
            assert weight.shape[-1] % 64 == 0, name


def test_the_geometry_has_every_part_of_the_large_model(model: Any) -> None:
    text, vision = model.config.text_config, model.config.vision_config
    assert text.num_experts >= 8
    assert text.num_experts_per_tok == 2
    assert len(vision.deepstack_visual_indexes) == 3
    assert not model.config.tie_word_embeddings


@pytest.mark.parametrize(
    ("size", "grid"),
    [((224, 224), (8, 8)), ((28, 28), (8, 8)), ((800, 800), (8, 8)), ((600, 300), None), ((90, 500), None)],
    ids=["square", "original", "large", "wide", "tall"],
)
def test_the_processor_makes_few_image_tokens(
    processor: Any, tokenizer: Any, size: tuple[int, int], grid: tuple[int, int] | None
) -> None:
    inputs = processor(images=[Image.new("RGB", size)], return_tensors="pt")
    found = tuple(inputs["image_grid_thw"][0, 1:].tolist())
    assert grid in (None, found)
    num_tokens = found[0] * found[1] // geometry.MERGE_SIZE**2
    assert 0 < num_tokens <= 20
    ids = encode_prompt(tokenizer, "看图", num_tokens).input_ids
    assert ids.count(special_id(tokenizer, IMAGE_PAD)) == num_tokens == len(inputs["pixel_values"]) // 4


def test_the_pictures_are_three_of_each_class() -> None:
    classes = [entry["class"] for entry in TRUTH.values()]
    assert sorted(classes) == sorted(list(range(10)) * 3)
    assert {path.name for path in PICTURES.glob("*.png")} == set(KNOWN)
    assert sorted(KNOWN.keys() - TRUTH.keys()) == ["upper-half-coat-00006.png", "upper-half-pullover-00001.png"]
    assert all(entry["name"] == CLASS_NAMES[entry["class"]] for entry in TRUTH.values())


@pytest.mark.parametrize(
    ("language", "chosen", "at_least"),
    [
        pytest.param("zh", ONE_OF_EACH_CLASS, 8, id="chinese"),
        pytest.param("en", ONE_OF_EACH_CLASS, 7, id="english"),
        pytest.param("zh", ALL, 26, id="chinese, all pictures", marks=pytest.mark.soak),
        pytest.param("en", ALL, 24, id="english, all pictures", marks=pytest.mark.soak),
    ],
)
def test_most_pictures_get_the_right_category(
    model: Any, tokenizer: Any, processor: Any, language: Language, chosen: slice, at_least: int
) -> None:
    images = [Image.open(PICTURES / name).convert("RGB") for name in [*TRUTH][chosen]]
    classes = torch.tensor([entry["class"] for entry in [*TRUTH.values()][chosen]])
    scores = score_classes(model, tokenizer, processor(images=images, return_tensors="pt"), language)
    assert int((scores.argmax(1) == classes).sum()) >= at_least


@torch.no_grad()
def score_classes(model: Any, tokenizer: Any, inputs: Any, language: Language) -> torch.Tensor:
    """Log-probability [pictures, classes] of each class's category path, through transformers' own forward."""
    variant = shipped_variant(language)
    prompt = encode_prompt(tokenizer, variant.instruction, 16).input_ids
    columns = []
    for labels in LABELS[language]:
        text = '{"category":["' + '","'.join(labels.category) + '"],'
        ids = tokenizer.encode(text, add_special_tokens=False)
        full = torch.tensor([[*prompt, *ids]]).expand(len(inputs["image_grid_thw"]), -1)
        logits = model(
            input_ids=full,
            pixel_values=inputs["pixel_values"],
            image_grid_thw=inputs["image_grid_thw"],
            mm_token_type_ids=(full == model.config.image_token_id).int(),
        ).logits[:, -len(ids) - 1 : -1]
        picked = logits.log_softmax(-1).gather(2, full[:, -len(ids) :, None])
        columns.append(picked.sum((1, 2)))
    return torch.stack(columns, dim=1)


def test_training_and_transformers_compute_the_same(model: Any, tokenizer: Any, processor: Any) -> None:
    images = [Image.open(PICTURES / name).convert("RGB") for name in list(TRUTH)[:2]]
    inputs = processor(images=images, return_tensors="pt")
    prompt = encode_prompt(tokenizer, shipped_variant("zh").instruction, 16)
    answers = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
    full = torch.cat([torch.tensor(prompt.input_ids).expand(2, -1), answers], dim=1)
    with torch.no_grad():
        expected = model(
            input_ids=full,
            pixel_values=inputs["pixel_values"],
            image_grid_thw=inputs["image_grid_thw"],
            mm_token_type_ids=(full == model.config.image_token_id).int(),
        ).logits[:, -5:-1]
        tower = joint.Tower(model.model.visual, frozen=True, compiled=False)
        found = joint.forward_batch(model, prompt, tower(inputs["pixel_values"], (8, 8)), (8, 8), answers)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
