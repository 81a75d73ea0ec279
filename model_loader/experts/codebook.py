"""The 16 NF4 values as a kernel meets them: a table in memory, or a byte permutation in registers.

Looking a code up is most of the time of an NF4 kernel. In bfloat16 a value is two bytes, and PTX `prmt` picks four
bytes out of eight by four nibbles, which is how the codes lie in memory: 23 integer instructions give 8 values, with
no memory access. It exists for bfloat16 on NVIDIA only; elsewhere (other dtypes, Triton's interpreter) the table in
memory is read. Both give the same bits. Raises nothing of its own.
"""

from __future__ import annotations

import functools

import bitsandbytes.functional as bnb_functional
import torch


@functools.cache
def table(device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Return the 16 values in `dtype` on `device`. Made once: a captured CUDA graph must not copy from the host."""
    values: torch.Tensor = bnb_functional.get_4bit_type("nf4", device="cpu")
    return values.to(device=device, dtype=dtype)


def _words(plane: int) -> list[str]:
    """Byte `plane` (0: low) of the 16 bfloat16 values, as four 32-bit words."""
    bits = table(torch.device("cpu"), torch.bfloat16).view(torch.int16).tolist()
    data = bytes((value >> (8 * plane)) & 0xFF for value in bits)
    return [f"0x{int.from_bytes(data[start : start + 4], 'little'):08x}" for start in range(0, 16, 4)]


def prmt_assembly() -> str:
    """Return PTX from one word of 4 packed bytes ($4) to 4 high-nibble values ($0, $1) and 4 low-nibble ones ($2, $3).

    For each half of the word and each byte plane: pick among entries 0-7 and among 8-15 by the low three bits of each
    nibble, then between both by the fourth bit. Two more permutations join the planes and sort high from low nibbles.
    """
    lines = ["{", ".reg .b32 half, index, blend, low, high, small, large;"]
    for number, (even, odd) in enumerate((("$0", "$2"), ("$1", "$3"))):
        lines += ["mov.b32 half, $4;"] if number == 0 else ["shr.u32 half, $4, 16;"]
        lines += [
            "and.b32 index, half, 0x7777;",
            "shr.u32 blend, half, 1;",
            "and.b32 blend, blend, 0x4444;",
            "or.b32 blend, blend, 0x3210;",
        ]
        for plane, name in enumerate(("low", "high")):
            words = _words(plane)
            lines += [
                f"prmt.b32 small, {words[0]}, {words[1]}, index;",
                f"prmt.b32 large, {words[2]}, {words[3]}, index;",
                f"prmt.b32 {name}, small, large, blend;",
            ]
        lines += [f"prmt.b32 {even}, low, high, 0x7351;", f"prmt.b32 {odd}, low, high, 0x6240;"]
    return "\n".join([*lines, "}"])
