"""A checkpoint by somebody who wishes us ill: nothing in it chooses code, and what is too large is refused by name."""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_loader.checkpoint import INDEX_NAME, SINGLE_NAME, read_checkpoint
from model_loader.clean import clean_config
from model_loader.contents import NAME as CONTENTS
from model_loader.errors import ModelError, UnsafeModelFiles
from model_loader.geometry import geometry_from_config
from model_loader.json_text import read_object
from model_loader.loader import load_model
from model_loader.preprocessor_file import read_preprocessor
from tests.limits import examples
from tests.model_loader.checkpoints import image_inputs, rewrite_json, tiny_config, write_checkpoint

KERNEL = "someone/some-kernel"
CODE = {
    "_attn_implementation": KERNEL,
    "attn_implementation": {"": KERNEL, "text_config": KERNEL},
    "_attn_implementation_internal": KERNEL,
    "_experts_implementation": KERNEL,
    "experts_implementation": KERNEL,
    "transformers_weights": "other.safetensors",
    "fusion_config": {"patch_embeddings": True},
    "per_layer_config": {"0": {"hidden_size": 1}},
    "distributed_config": {"tp_size": 2},
    "custom_generate": KERNEL,
    "use_kernels": True,
    "kernel_config": {"kernel_mapping": {"RMSNorm": KERNEL}},
    "num_labels": 10**9,
    "_name_or_path": KERNEL,
    "base_model_name_or_path": KERNEL,
    "output_attentions": True,
}
"""What transformers 5 takes from a config.json to choose code, files or memory by."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("plain") / "model")


@pytest.fixture
def folder(plain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(plain, tmp_path / "model"))


def logits(folder: Path) -> torch.Tensor:
    loaded = load_model(str(folder), device="cpu", quantisation="none")
    chosen = {module.config._attn_implementation for module in loaded.model.modules() if hasattr(module, "config")}
    assert chosen == {"sdpa"}
    with torch.no_grad():
        result: torch.Tensor = loaded.model(**image_inputs()).logits
    return result


def test_a_checkpoint_that_names_code_everywhere_is_loaded_as_if_it_did_not(folder: Path, plain: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    nested = {name: config[name] | CODE for name in ("text_config", "vision_config")}
    rewrite_json(folder / "config.json", **CODE, **nested)
    rewrite_json(
        folder / "tokenizer_config.json", **CODE, init_inputs=[KERNEL], gguf_file="/etc/passwd", backend=KERNEL
    )
    rewrite_json(folder / "preprocessor_config.json", **CODE)
    for name in ("adapter_config.json", "generation_config.json", "processor_config.json"):
        (folder / name).write_text(json.dumps(CODE | {"image_processor": {"patch_size": 1}}))
    for name in ("shard-00000-model-00001-of-00001.safetensors", "other.safetensors", ".metadata"):
        (folder / name).write_bytes(b"cos\nsystem\n(S'false'\ntR.")  # transformers takes the first for weights
    torch.testing.assert_close(logits(folder), logits(plain), rtol=0, atol=0)


def keys(value: Any) -> Iterator[str]:
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield key
        yield from keys(inner)


plain_values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([KERNEL])
values = st.recursive(
    plain_values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*CODE, "x"]), inner)
)


@settings(max_examples=examples(100, 3_000))
@given(st.data())
def test_whatever_stands_in_a_config_it_is_refused_or_says_nothing_of_code(data: st.DataObject) -> None:
    config = json.loads(json.dumps(tiny_config().to_dict(), default=str))
    for _ in range(data.draw(st.integers(1, 3))):
        section = data.draw(st.sampled_from([config, *(part for part in config.values() if isinstance(part, dict))]))
        section[data.draw(st.sampled_from([*section, *CODE, "quantization_config"]))] = data.draw(values)
    try:
        geometry_from_config(config)
    except ModelError:
        return
    kept = clean_config(config)
    for part in (kept, kept["text_config"], kept["vision_config"]):
        assert not set(part) & set(CODE)


@pytest.mark.parametrize(
    "kind", ["MistralCommonBackend", "BertJapaneseTokenizer", "RagTokenizer", "x.y.Evil", 7, ["Qwen2Tokenizer"]]
)
def test_a_tokenizer_of_another_class_is_refused(folder: Path, kind: object) -> None:
    rewrite_json(folder / "tokenizer_config.json", tokenizer_class=kind)
    with pytest.raises(UnsafeModelFiles, match="asks for the tokenizer_class"):
        read_checkpoint(folder)


def deep(levels: int) -> str:
    return '{"a":' * levels + "0" + "}" * levels


def layers(section: str, name: str, number: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        config[section][name] = number
        (folder / "config.json").write_text(json.dumps(config))

    return change


def header_of_a_million(folder: Path) -> None:
    entry = b'"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
    header = b"{" + entry * 1_000_000 + b'"z":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (folder / SINGLE_NAME).write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)


def index_of_a_million(folder: Path) -> None:
    names = b'"t":"a.safetensors",' * 1_000_000
    (folder / INDEX_NAME).write_bytes(b'{"metadata":{},"weight_map":{' + names + b'"z":"a.safetensors"}}')


def written(name: str, text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_text(text)

    return change


SMALL = ["config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(pytest.param(written(name, deep(600)), "nested deeper", id=f"600 levels in {name}") for name in SMALL),
        *(pytest.param(written(name, deep(10**5)), "nested deeper", id=f"endless levels in {name}") for name in SMALL),
        *(pytest.param(written(name, f"[{'0,' * 10**6}0]"), "values", id=f"a million in {name}") for name in SMALL),
        pytest.param(layers("text_config", "num_hidden_layers", 10**6), "num_hidden_layers is 1,000,000", id="layers"),
        pytest.param(layers("text_config", "num_hidden_layers", 10**400), "no model has more", id="endless layers"),
        pytest.param(layers("vision_config", "depth", 10**6), "depth is 1,000,000", id="layers of the vision tower"),
        pytest.param(layers("text_config", "head_dim", 10**12), "head_dim is", id="a head of terabytes"),
        pytest.param(header_of_a_million, "lists more than", id="a million tensors in a shard"),
        pytest.param(index_of_a_million, "lists more than", id="a million tensors in an index"),
    ],
)
def test_what_is_too_large_for_any_model_is_refused_by_name(
    folder: Path, change: Callable[[Path], None], message: str
) -> None:
    change(folder)
    with pytest.raises(ModelError, match=message):
        geometry_from_config(read_checkpoint(folder).config)


def replaced(old: str, new: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": old}, "content": new}


TOKENIZERS: dict[str, tuple[dict[str, Any], str]] = {
    "a text made longer again and again": (
        {"normalizer": {"type": "Sequence", "normalizers": [replaced("e", "e" * 8)] * 9}}, "normalizer is Replace",
    ),
    "an alphabet of the library's own": (
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}, "normalizer is Precompiled",
    ),
    "pieces of no length": ({"pre_tokenizer": {"type": "FixedLength", "length": 0}}, "pre_tokenizer is FixedLength"),
    **{
        f"a pattern without an end, {pattern[:12]}": (
            {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}},
            "splits by a pattern of its own",
        )
        for pattern in (r"((.+)+)+\d", "x*" * 9 + "y", "x?" * 200 + "x" * 200, r"\p{L}+\p{L}+\p{L}+\d", "")
    },
    "a text written a million times": (
        {"post_processor": {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 10**5}},
        "post_processor is .* characters long",
    ),
    "a decoder of another kind": ({"decoder": {"type": "WordPiece"}}, "decoder is WordPiece"),
    "another model": ({"model": {"type": "Unigram", "unk_id": 99, "vocab": [["a", 0.0]]}}, "model is no BPE"),
    "a token of a number without end": ({"model": {"type": "BPE", "vocab": {"a": 2**32 - 6}}}, "no token has"),
    "a prefix": (
        {"model": {"type": "BPE", "vocab": {"a": 0}, "continuing_subword_prefix": "x"}}, "continuing_subword_prefix"
    ),
    "an added token of a number without end": ({"added_tokens": [{"id": 4 * 10**9, "content": "<q>"}]}, "none has"),
    "a token without end": ({"model": {"type": "BPE", "vocab": {"a" * 1_024: 0}}}, "has a token of 1,024 bytes"),
    "an added token without end": ({"added_tokens": [{"id": 1, "content": "衣" * 400}]}, "a token of 1,200 bytes"),
    "an added token that is no text": ({"added_tokens": [{"id": 1, "content": []}]}, "it has no <|im_start|>"),
    "added tokens without end": ({"added_tokens": [{"id": n, "content": f"<{n}>"} for n in range(2_000)]}, "1,000"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), TOKENIZERS.values(), ids=TOKENIZERS)
def test_a_tokenizer_that_does_anything_but_split_is_refused(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    rewrite_json(folder / "tokenizer.json", **changes)
    with pytest.raises(ModelError, match=message):
        load_model(str(folder), device="cpu", quantisation="none")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"extra_special_tokens": {f"k{n}": f"<{n}>" for n in range(2_000)}},
            "extra_special_tokens has more than 1,000",
        ),
        ({f"k{n}_token": f"<{n}>" for n in range(2_000)}, "it has more than 1,000 tokens"),
        ({"eos_token": "x" * 1_024}, "has a token of 1,024 bytes"),
        ({"pad_token": {"__type": "AddedToken", "content": "x" * 10**6}}, "has a token of 1,000,000 bytes"),
        ({"added_tokens_decoder": {"5": {"content": "x" * 1_024}}}, "has a token of 1,024 bytes"),
        ({"additional_special_tokens": ["衣" * 400]}, "has a token of 1,200 bytes"),
        ({"extra_special_tokens": {"x" * 1_024: "x"}}, "has a token of 1,024 bytes"),
    ],
)
def test_special_tokens_without_end_are_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    rewrite_json(folder / "tokenizer_config.json", **changes)
    with pytest.raises(ModelError, match=f"tokenizer_config.json.* {message}"):
        load_model(str(folder), device="cpu", quantisation="none")


def test_what_no_token_needs_is_left_out(folder: Path, plain: Path) -> None:
    rewrite_json(
        folder / "tokenizer_config.json", chat_template="{% for a in range(10**9) %}" * 9_999, model_max_length="x"
    )
    torch.testing.assert_close(logits(folder), logits(plain), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["patch_size", "merge_size", "temporal_patch_size"])
def test_patches_that_are_not_those_of_the_vision_tower_are_refused(folder: Path, name: str) -> None:
    rewrite_json(folder / "preprocessor_config.json", **{name: 2_000})
    with pytest.raises(ModelError, match=f"preprocessor_config.json has {name} 2000"):
        load_model(str(folder), device="cpu", quantisation="none")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("size", value) for value in (224, [1, 2], "x")),
        *(("size", {"longest_edge": value, "shortest_edge": 1}) for value in ("x", 0, -1, math.nan, math.inf, 10**400)),
        *(("image_mean", value) for value in (0.5, "x", [0.5] * 4, [math.nan] * 3, [10**400] * 3, [True] * 3)),
        *(("image_std", value) for value in ([0, 0, 0], [-1, 1, 1], ["x"] * 3, [[1]] * 3)),
        *(("rescale_factor", value) for value in (0, "x", math.inf, 10**400, [1])),
        *(("resample", value) for value in (99, "bicubic", -1)),
        *((name, "x") for name in ("min_pixels", "max_pixels", "do_rescale", "patch_size", "merge_size")),
    ],
)
def test_what_says_nothing_of_pictures_is_refused_by_its_name(folder: Path, name: str, value: object) -> None:
    rewrite_json(folder / "preprocessor_config.json", **{name: value})
    with pytest.raises(ModelError, match=rf"preprocessor_config\.json: {name}\S* must be"):
        read_preprocessor(folder / "preprocessor_config.json")


def test_what_is_no_number_of_pictures_is_left_out(folder: Path) -> None:
    file = folder / "preprocessor_config.json"
    known = read_preprocessor(file)
    rewrite_json(file, **CODE, __class__="x", __dict__={}, preprocess="x", resize=None, crop_size={"height": 1})
    assert read_preprocessor(file) == known
    rewrite_json(file, size={"height": 224, "width": 224}, image_mean=None)
    assert set(known) - set(read_preprocessor(file)) == {"size", "image_mean"}


@pytest.mark.parametrize("offsets", ["[0,1e999]", "[1e999,4]", "[0,NaN]", '["a","b"]', "[0]", "{}", "null", "[0,[4]]"])
@pytest.mark.parametrize("shape", ["[1]", "[1e999]"])
def test_a_header_of_odd_numbers_is_refused_by_name(folder: Path, offsets: str, shape: str) -> None:
    header = f'{{"t":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}'.encode()
    (folder / SINGLE_NAME).write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    with pytest.raises(ModelError, match="malformed header"):
        read_checkpoint(folder)


@pytest.mark.parametrize("name", ["x" * 5_000, "\ud800", "a\0", "a\nb", "../a", "a/b"], ids=ascii)
def test_an_index_that_names_no_file_of_a_folder_is_refused_in_words_that_can_be_printed(
    folder: Path, name: str
) -> None:
    (folder / INDEX_NAME).write_text(json.dumps({"metadata": {}, "weight_map": {"t": f"{name}.safetensors"}}))
    with pytest.raises(UnsafeModelFiles, match=r"no \.safetensors of this folder") as caught:
        read_checkpoint(folder)
    assert len(str(caught.value).encode()) < 500


NO_FILES: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to nowhere": lambda path: path.symlink_to("/nowhere"),
    "a device without end": lambda path: path.symlink_to("/dev/zero"),
    "a terminal": lambda path: path.symlink_to("/dev/tty"),
}


@pytest.mark.parametrize("put", NO_FILES.values(), ids=NO_FILES)
def test_what_is_called_as_files_of_a_model_are_and_is_none_changes_nothing(
    folder: Path, put: Callable[[Path], object]
) -> None:
    files = [
        folder / name for name in ("other.safetensors", INDEX_NAME, "tokenizer_config.json", "processor_config.json")
    ]
    for file in files:
        file.unlink(missing_ok=True)
    wanted = load_model(str(folder), device="cpu", quantisation="none")
    for file in files:
        put(file)
    assert load_model(str(folder), device="cpu", quantisation="none").weights_id == wanted.weights_id


@pytest.mark.parametrize("name", [SINGLE_NAME, "config.json", "tokenizer.json", "preprocessor_config.json", CONTENTS])
@pytest.mark.parametrize("kind", ["a pipe", "a folder", "a device without end"])
def test_what_stands_where_a_file_of_a_model_should_is_refused(folder: Path, name: str, kind: str) -> None:
    (folder / name).unlink(missing_ok=True)
    NO_FILES[kind](folder / name)
    with pytest.raises(ModelError, match=r"has no|holds no|is damaged"):
        load_model(str(folder), device="cpu", quantisation="none")


@pytest.mark.parametrize("kind", ["a pipe", "a folder", "a device without end"])
def test_json_is_read_from_files_alone(tmp_path: Path, kind: str) -> None:
    NO_FILES[kind](tmp_path / "x.json")
    with pytest.raises(ModelError, match=r"x\.json is no file"):
        read_object(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("section", "name", "value", "message"),
    [
        *(("", "image_token_id", value, "image_token_id must be a token") for value in (-5, 10**400, "x", 1.0, True)),
        *(("text_config", "eos_token_id", value, "eos_token_id must be a token") for value in (10**9, [0, -1], ["x"])),
        ("text_config", "pad_token_id", 10**9, "pad_token_id must be a token of the vocabulary"),
        ("text_config", "num_experts_per_tok", 10**5, "num_experts_per_tok is 100,000, of"),
        *(("vision_config", "num_heads", value, "vision_config.num_heads") for value in (7, 0, "x", None)),
        *(
            ("text_config", name, {"mrope_section": value}, f"{name}.mrope_section must be three numbers")
            for name in ("rope_scaling", "rope_parameters")
            for value in ("x", [10**9, 1, 1], [1, 1], [-1, 1, 1], [1.0, 1, 1], {"0": 1})
        ),
    ],
)
def test_a_number_that_no_model_has_is_refused_before_a_picture_fails_by_it(
    section: str, name: str, value: object, message: str
) -> None:
    config = tiny_config().to_dict()
    (config[section] if section else config)[name] = value
    with pytest.raises(ModelError, match=message):
        geometry_from_config(config)


@pytest.mark.parametrize("numbers", [[0] * 1_000, [None], "0", {"0": 1}])
@pytest.mark.parametrize(
    ("section", "name"), [("text_config", "mlp_only_layers"), ("vision_config", "deepstack_visual_indexes")]
)
def test_a_list_of_layers_that_is_none_is_refused(section: str, name: str, numbers: object) -> None:
    config = tiny_config().to_dict()
    config[section][name] = numbers
    with pytest.raises(ModelError, match=f"{section}.{name} must list"):
        geometry_from_config(config)
