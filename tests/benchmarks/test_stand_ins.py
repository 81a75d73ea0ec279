"""What stands in for a missing package computes what the package does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import bitsandbytes.functional as bnb_functional
import pytest
import torch

from benchmarks import stand_ins

ROOT = Path(__file__).parents[2]
WITHOUT = """
import importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in {names} else found(name, package)
class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Nowhere())
from benchmarks import full_geometry
full_geometry.main(["--small", "--budget-s", "1"])
"""


def test_it_packs_and_unpacks_the_bits_of_bitsandbytes() -> None:
    assert torch.equal(stand_ins.get_4bit_type("nf4"), bnb_functional.get_4bit_type("nf4", device="cpu"))
    weight = torch.randn(64, 192, generator=torch.Generator().manual_seed(0))
    weight[3] = 0
    codes, state = bnb_functional.quantize_4bit(weight, blocksize=64, quant_type="nf4")
    packed = stand_ins.Params4bit(weight).to("cpu")
    assert packed.quant_state is not None
    assert torch.equal(packed.data, codes)
    assert torch.equal(packed.quant_state.absmax, state.absmax)
    unpacked = stand_ins.dequantize_4bit(packed.data, packed.quant_state)
    assert torch.equal(unpacked, bnb_functional.dequantize_4bit(codes, state))


def test_its_cache_forgets_what_was_not_asked_for_longest() -> None:
    cache = stand_ins.LRUCache(2)
    cache["a"], cache["b"] = 1, 2
    assert (cache.get("a"), cache.get("x")) == (1, None)
    cache["c"] = 3
    assert list(cache) == ["a", "c"]


@pytest.mark.soak
def test_the_benchmark_names_what_is_missing_and_runs() -> None:
    code = WITHOUT.format(names=("bitsandbytes", "cachetools"))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "cachetools is missing" in done.stdout
    assert "bitsandbytes is missing" in done.stdout
    assert "img/s" in done.stdout
