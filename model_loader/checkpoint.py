"""A checkpoint folder as it lies on disk: config.json, safetensors headers, and whether the files are whole.

Covered: pickled weights, `auto_map`, another model's tokenizer, a shard that the index names but the folder lacks, a
shard cut short, a header that is no header, an index that disagrees with its shards. Not covered: the values of the
weights, which `contents` looks at, and what else transformers would take from the folder: `clean` leaves that out.
Reads headers only (a few MB for a 60 GB model), never a tensor; imports no torch.
Raises ModelFilesInvalid, UnsafeModelFiles or ModelNotFound.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_loader.errors import ModelFilesInvalid, ModelNotFound, UnsafeModelFiles, shorten
from model_loader.json_text import parse_object, read_object
from model_loader.places import is_empty

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
_PICKLED = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".msgpack", ".h5"})
_TOKENIZER_CONFIG = "tokenizer_config.json"
_CONFIGS_WITH_CODE = ("config.json", _TOKENIZER_CONFIG, "preprocessor_config.json", "processor_config.json")
TOKENIZERS = ("Qwen2Tokenizer", "Qwen2TokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend")
MAX_TENSORS = 200_000
_MAX_HEADER_BYTES = 100 * 2**20  # the limit of the safetensors format itself
_MAX_NAME_BYTES = 255
_SAMPLE_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of a shard: safetensors dtype name ("BF16"), shape and size in bytes."""

    dtype: str
    shape: tuple[int, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder whose files have been checked. `tensors` maps every tensor name to its entry."""

    folder: Path
    config: Mapping[str, Any]
    shards: tuple[Path, ...]
    tensors: Mapping[str, TensorEntry]

    @property
    def size_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.tensors.values())


def read_checkpoint(folder: Path) -> Checkpoint:
    """Check every file of `folder` that loading needs, and return what the headers say."""
    config = read_config(folder)
    refuse_remote_code(folder)
    shards = _shards(folder)
    return Checkpoint(folder, config, shards, read_headers(shards))


def read_config(folder: Path) -> dict[str, Any]:
    """Return config.json. Raises ModelNotFound if the folder has none."""
    if not folder.is_dir():
        raise ModelNotFound(f"there is no folder {folder}; give a hub id such as owner/name or an existing folder")
    if not (folder / "config.json").is_file():
        if is_empty(folder):
            raise ModelNotFound(f"{folder} is empty: is its disk mounted? Point to the checkpoint's folder")
        raise ModelNotFound(f"{folder} has no config.json; point to the folder that holds the whole checkpoint")
    return read_object(folder / "config.json")


def weights_id(shards: Iterable[Path]) -> str:
    """Return 8 hex digits that tell the weights of a checkpoint from others: a hash of each shard's size, beginning and
    end.

    The same for the same files wherever they lie; other weights of the same shapes differ in every sample. What else
    the folder has is not looked at: it may be anything that is called so, a pipe that nobody writes to, too.
    """
    digest = hashlib.sha256()
    for shard in sorted(shards):
        size = shard.stat().st_size
        with shard.open("rb") as file:
            digest.update(f"{shard.name}:{size}\n".encode() + file.read(_SAMPLE_BYTES))
            file.seek(max(0, size - _SAMPLE_BYTES))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:8]


def refuse_remote_code(folder: Path) -> None:
    """Raise UnsafeModelFiles if a config of `folder` names Python code to run: `auto_map`, or a tokenizer's class."""
    for name in _CONFIGS_WITH_CODE:
        config = read_object(folder / name) if (folder / name).is_file() else {}
        if _has_key(config, "auto_map"):
            raise UnsafeModelFiles(
                f"{name} has auto_map: this model wants to run its own Python code, which prelabel never does; "
                "use a checkpoint of a model that transformers has built in"
            )
        if name == _TOKENIZER_CONFIG and (kind := config.get("tokenizer_class") or TOKENIZERS[0]) not in TOKENIZERS:
            raise UnsafeModelFiles(
                f"{name} asks for the tokenizer_class {str(kind)[:80]!r}; prelabel runs those of Qwen's models only "
                f"({', '.join(TOKENIZERS)}): use a checkpoint with its original tokenizer"
            )


def read_headers(shards: Iterable[Path]) -> dict[str, TensorEntry]:
    """Return all tensors of `shards`. Raises ModelFilesInvalid naming the shard that is cut short or malformed."""
    tensors: dict[str, TensorEntry] = {}
    for shard in shards:
        for name, entry in _read_header(shard).items():
            if name in tensors:
                raise ModelFilesInvalid(f"{shard.name} repeats the tensor {name} of an earlier shard; download again")
            tensors[name] = entry
        if len(tensors) > MAX_TENSORS:
            raise ModelFilesInvalid(f"the shards hold more than {MAX_TENSORS:,} tensors, which no model does")
    return tensors


def _shards(folder: Path) -> tuple[Path, ...]:
    if (folder / INDEX_NAME).is_file():
        return _indexed_shards(folder)
    if (folder / SINGLE_NAME).is_file():
        return (folder / SINGLE_NAME,)
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in _PICKLED)
    if pickled:
        raise UnsafeModelFiles(
            f"{folder.name} holds pickled weights only ({shorten(pickled, limit=3)}), which can run code when read; "
            "use a checkpoint saved as .safetensors"
        )
    loose = sorted(path.name for path in folder.glob("*.safetensors"))
    found = f"found {shorten(loose, limit=3)} but no {INDEX_NAME}" if loose else "no .safetensors file"
    raise ModelFilesInvalid(f"{folder} holds no complete weights ({found}); download the checkpoint again")


def _indexed_shards(folder: Path) -> tuple[Path, ...]:
    index = read_object(folder / INDEX_NAME)
    weight_map = index.get("weight_map")
    if not isinstance(index.get("metadata"), dict):  # transformers reads the index itself, and wants it there
        raise ModelFilesInvalid(f"{INDEX_NAME} has no metadata; download the checkpoint again")
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(v, str) for v in weight_map.values()):
        raise ModelFilesInvalid(f"{INDEX_NAME} has no weight_map; download the checkpoint again")
    names: list[str] = sorted(set(weight_map.values()))
    outside = [name for name in names if not _is_of_a_folder(name)]
    if outside:
        shown = [name.encode("utf-8", "backslashreplace").decode()[:_MAX_NAME_BYTES] for name in outside]
        raise UnsafeModelFiles(f"{INDEX_NAME} names files that are no .safetensors of this folder: {shorten(shown)}")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ModelFilesInvalid(
            f"{len(missing)} of {len(names)} shards are missing: {shorten(missing)}; start again to finish the download"
        )
    shards = tuple(folder / name for name in names)
    lost = sorted(set(weight_map) - set(read_headers(shards)))
    if lost:
        raise ModelFilesInvalid(f"the index names tensors that no shard holds: {shorten(lost)}; download again")
    return shards


def _is_of_a_folder(name: str) -> bool:
    """Whether a shard may be called so; the system would raise errors of its own for a longer name."""
    is_short = len(name.encode("utf-8", "replace")) <= _MAX_NAME_BYTES
    return Path(name).name == name and name.endswith(".safetensors") and name.isprintable() and is_short


def _read_header(shard: Path) -> dict[str, TensorEntry]:
    """Parse one header: 8 bytes of length, JSON, then the data up to the largest `data_offsets` end."""
    size = shard.stat().st_size
    with shard.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= length <= min(_MAX_HEADER_BYTES, max(0, size - 8)):
            raise ModelFilesInvalid(f"{shard.name} is no whole safetensors file; delete it and download it again")
        text = file.read(length)
    try:
        raw = parse_object(text, shard.name)
        raw.pop("__metadata__", None)
        entries = {name: _entry(value) for name, value in raw.items()}
        end = max((int(value["data_offsets"][1]) for value in raw.values()), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise ModelFilesInvalid(f"{shard.name} has a malformed header; delete it and download it again") from error
    if size != 8 + length + end:
        raise ModelFilesInvalid(
            f"{shard.name} is {size} bytes but its header says {8 + length + end}: the file was cut short or damaged; "
            "delete it and download it again"
        )
    return entries


def _entry(value: dict[str, Any]) -> TensorEntry:
    start, end = value["data_offsets"]
    return TensorEntry(str(value["dtype"]), tuple(int(n) for n in value["shape"]), int(end) - int(start))


def _has_key(value: Any, key: str) -> bool:
    if isinstance(value, dict):
        return key in value or any(_has_key(inner, key) for inner in value.values())
    return isinstance(value, list) and any(_has_key(inner, key) for inner in value)
