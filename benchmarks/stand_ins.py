"""Stand-ins for packages that `full_geometry` can do without, for machines where nothing can be installed.

Importing this module, before those that need them, puts them where `import` looks, for each package that is missing;
`MISSING` says what is measured otherwise because of it. Not for serving: only what the benchmark calls is here. The NF4
values and the order of the codes are those of bitsandbytes (a test compares them).
"""

from __future__ import annotations

import importlib.util
import sys
from collections import OrderedDict
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

BLOCK_SIZE = 64
# fmt: off
NF4_VALUES = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)
# fmt: on


def _use() -> list[str]:
    """A sentence for each package that is missing."""
    told: list[str] = []
    if importlib.util.find_spec("cachetools") is None:
        _put("cachetools", LRUCache=LRUCache)
        told.append("cachetools is missing: a small cache of the benchmark's own is in its place")
    if importlib.util.find_spec("bitsandbytes") is None:
        # transformers remembers that it is not there, and so never looks for more than this
        import transformers.integrations.bitsandbytes  # noqa: F401

        _define_operators()
        functions = _put("bitsandbytes.functional", get_4bit_type=get_4bit_type, dequantize_4bit=dequantize_4bit)
        modules = _put("bitsandbytes.nn", Linear4bit=Linear4bit, Params4bit=Params4bit)
        _put("bitsandbytes", functional=functions, nn=modules, __version__="(a stand-in)")
        told.append(
            "bitsandbytes is missing: weights are packed by plain torch, and prefills unpack attention's with it, "
            "somewhat slower; the experts and all decode steps are as they are with it"
        )
    return told


class LRUCache(OrderedDict[Any, Any]):
    """The least recently used goes first where there would be more than `maxsize`."""

    def __init__(self, maxsize: int) -> None:
        super().__init__()
        self.maxsize = maxsize

    def __getitem__(self, key: Any) -> Any:
        self.move_to_end(key)
        return super().__getitem__(key)

    def get(self, key: Any, default: Any = None) -> Any:
        return self[key] if key in self else default  # noqa: SIM401 (that would be this method)

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        if len(self) > self.maxsize:
            self.popitem(last=False)


def get_4bit_type(name: str, device: Any = None) -> torch.Tensor:
    return torch.tensor(NF4_VALUES, device=device)


def quantise(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return codes [numel / 2, 1] uint8, the first of two in the high nibble, and absmax [numel / 64] float32."""
    values = get_4bit_type("nf4", weight.device)
    blocks = weight.reshape(-1, BLOCK_SIZE).float()
    absmax = blocks.abs().amax(dim=1)
    scaled = blocks / absmax.clamp(min=torch.finfo(torch.float32).tiny)[:, None]
    codes = torch.bucketize(scaled, (values[1:] + values[:-1]) / 2).to(torch.uint8).view(-1, 2)
    return (codes[:, :1] << 4) | codes[:, 1:], absmax


def dequantise(packed: torch.Tensor, absmax: torch.Tensor, shape: Any, dtype: torch.dtype) -> torch.Tensor:
    codes = torch.stack([packed >> 4, packed & 15], dim=-1).flatten().int()
    values = _table(packed.device).index_select(0, codes).view(-1, BLOCK_SIZE) * absmax.view(-1, 1)
    return values.view(list(shape)).to(dtype)


_tables: dict[torch.device, torch.Tensor] = {}


def _table(device: torch.device) -> torch.Tensor:
    """Made once: a captured CUDA graph must not copy from the host."""
    if device not in _tables:
        _tables[device] = get_4bit_type("nf4", device)
    return _tables[device]


@dataclass(frozen=True, slots=True)
class QuantState:
    absmax: torch.Tensor
    shape: torch.Size
    dtype: torch.dtype
    blocksize: int = BLOCK_SIZE
    quant_type: str = "nf4"
    nested: bool = False


class Params4bit(nn.Parameter):
    """A weight that `to` packs."""

    quant_state: QuantState | None

    def __new__(cls, data: torch.Tensor, requires_grad: bool = False, **options: Any) -> Params4bit:
        made: Params4bit = torch.Tensor._make_subclass(cls, data, requires_grad)
        made.quant_state = None
        return made

    def to(self, device: Any) -> Params4bit:  # type: ignore[override]
        weight = self.data.to(device)
        codes, absmax = quantise(weight)
        packed = Params4bit(codes)
        packed.quant_state = QuantState(absmax, weight.shape, weight.dtype)
        return packed


def dequantize_4bit(packed: torch.Tensor, state: QuantState) -> torch.Tensor:
    return dequantise(packed, state.absmax, state.shape, state.dtype)


class Linear4bit(nn.Linear):
    """Its weight is a packed Params4bit."""

    def __init__(
        self, columns: int, rows: int, bias: bool, compute_dtype: torch.dtype | None = None, quant_type: str = "nf4"
    ) -> None:
        super().__init__(columns, rows, bias)
        self.compute_dtype = compute_dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        packed: Any = self.weight
        return F.linear(x, dequantize_4bit(packed.data, packed.quant_state).to(x.dtype), self.bias)


def _define_operators() -> None:
    @torch.library.custom_op("bitsandbytes::quantize_4bit", mutates_args=())
    def quantize_4bit(
        weight: torch.Tensor, blocksize: int, quant_type: str, storage: torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return quantise(weight)

    @torch.library.custom_op("bitsandbytes::dequantize_4bit", mutates_args=())
    def dequantize_4bit(
        packed: torch.Tensor,
        absmax: torch.Tensor,
        blocksize: int,
        quant_type: str,
        shape: list[int],
        dtype: torch.dtype,
    ) -> torch.Tensor:
        return dequantise(packed, absmax, shape, dtype)


def _put(name: str, **members: Any) -> ModuleType:
    made = sys.modules[name] = ModuleType(name, "A stand-in of benchmarks.stand_ins.")
    for member, value in members.items():
        setattr(made, member, value)
    return made


MISSING = _use()
