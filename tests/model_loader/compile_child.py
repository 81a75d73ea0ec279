"""Compile the kernels for cards that are not here, down to machine code, and print one JSON line for each.

Run as a process of its own, in which Triton is no interpreter: python -m tests.model_loader.compile_child [all]
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from backend.engine import slot_attention
from backend.engine.kv_blocks import BLOCK_TOKENS
from model_loader.experts import dequantise, kernels, tiles
from model_loader.experts.plan import DENSE, FUSED, Step, Tile

HIDDEN, INNER = 2048, 768  # of the 30B
INT = {"order", "tiles", "table", "length"}
NUMBERS = {"num_tiles", "total_rows", "num_routes", "num_experts", "num_blocks"}
STRIDES = ("_token", "_head", "_row")
TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"


def kind(name: str, kernel: Any, *, packed: bool) -> str:
    """The type of a kernel's argument at a launch with bfloat16 activations."""
    if name == "scale":
        return "fp32"
    if name in NUMBERS or name.endswith(STRIDES):
        return "i32"
    if name == "index":
        return "*i64"
    if name in ("sums", "tops"):
        return "*fp32"
    if name == "codes":
        return "*fp32" if kernel is dequantise.dequantise_kernel else "*bf16"
    if name in INT:
        return "*i32"
    return "*u8" if name == "packed" or (name == "weight" and packed) else "*bf16"


def compiled(kernel: Any, arch: int, num_warps: int, num_stages: int, **constants: Any) -> dict[str, Any]:
    """Registers and spilled bytes a thread, and shared memory, of `kernel` on compute capability `arch`."""
    packed = constants.get("PACKED", False)
    types = {n: "constexpr" if n in constants else kind(n, kernel, packed=packed) for n in kernel.arg_names}
    aligned = {  # addresses, and the strides of the pools, are multiples of 16: Triton finds out at a launch
        (place,): [["tt.divisibility", 16]]
        for place, (name, type_) in enumerate(types.items())
        if type_.startswith("*") or name.endswith(STRIDES)
    }
    source = ASTSource(fn=kernel, signature=types, constexprs=constants, attrs=aligned)
    options = {"num_warps": num_warps, "num_stages": num_stages}
    result = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(result.asm["cubin"])
        file.flush()
        usage = subprocess.run(
            [TOOLS / "cuobjdump", "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert found is not None, usage
    asm = result.asm["ptx"]
    return {
        "kernel": kernel.__name__,
        "arch": arch,
        "warps": num_warps,
        "registers": int(found[1]),
        "spilled_bytes": int(found[2]),
        "shared_bytes": result.metadata.shared,
        "tensor_cores": "mma" in asm,
        "permutes": "prmt" in asm,
        "loads_ahead": "cp.async" in asm,
    }


def products(arch: int, step: Step, *, packed: bool) -> list[dict[str, Any]]:
    def product(kernel: Any, tile: Tile, columns: int, depth: int, **constants: Any) -> dict[str, Any]:
        if not packed:
            constants["absmax"] = None
        return compiled(
            kernel,
            arch,
            tile.num_warps,
            tile.num_stages,
            N=columns,
            K=depth,
            BLOCK_M=step.block_m,
            BLOCK_N=tile.block_n,
            PACKED=packed,
            PERMUTE=True,
            UNROLL=tile.unroll,
            STAGES=tile.num_stages,
            GROUP=1 if packed else 8,
            **constants,
        )

    return [
        product(kernels.gate_up_kernel, step.gate_up, INNER, HIDDEN, TOP_K=8),
        product(kernels.linear_kernel, step.down, HIDDEN, INNER, bias=None),
    ]


def packed_steps(*, all_steps: bool) -> list[Step]:
    """The steps whose kernels are compiled: of the fused ones, those with the smallest and the largest tiles."""
    return [*FUSED] if all_steps else [FUSED[0], FUSED[-1]]


def compile_kernels(*, all_steps: bool) -> list[dict[str, Any]]:
    """Every kernel; with `all_steps` in each form in which a card runs it, for two generations of cards."""
    rows = [row for step in packed_steps(all_steps=all_steps) for row in products(86, step, packed=True)]
    if all_steps:
        rows += products(86, DENSE, packed=False)
        rows += products(90, FUSED[0], packed=True) + products(90, DENSE, packed=False)
    rows.append(compiled(tiles.group_routes_kernel, 86, 4, 3, BLOCK_M=16, A_SLOT_A_ROUTE=False, CHUNK=tiles.CHUNK))
    rows.append(compiled(kernels.combine_kernel, 86, 4, 3, N=HIDDEN, TOP_K=8, BLOCK_N=1024))
    rows.append(compiled(dequantise.dequantise_kernel, 86, 4, 3, BLOCKS=dequantise.BLOCKS_A_PROGRAM))
    parts = {"HEADS": 32, "D": 128, "PARTS": 4}
    attend = {"GROUP": 8, "GROUP_PADDED": 16, "BLOCK_TOKENS": BLOCK_TOKENS, "BLOCK_T": 64, **parts}
    for arch in (86, 89, 90, 120) if all_steps else (86,):
        rows.append(compiled(slot_attention.attend_kernel, arch, 4, 2, **attend))
    rows.append(compiled(slot_attention.join_kernel, 86, 2, 3, PARTS_PADDED=4, **parts))
    return rows


if __name__ == "__main__":
    for row in compile_kernels(all_steps="all" in sys.argv):
        sys.stdout.write(json.dumps(row) + "\n")
