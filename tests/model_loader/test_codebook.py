"""The two ways to look a code up. The PTX runs on no CPU, so its six instructions are carried out here."""

from __future__ import annotations

import bitsandbytes.functional as bnb_functional
import pytest
import torch

from model_loader.experts.codebook import prmt_assembly, table


def permute(a: int, b: int, selector: int) -> int:
    """PTX `prmt.b32`: each of four selector nibbles picks a byte of b:a. (Its sign mode, bit 3, must not occur.)"""
    data = a.to_bytes(4, "little") + b.to_bytes(4, "little")
    picks = [(selector >> (4 * byte)) & 15 for byte in range(4)]
    assert max(picks) < 8
    return int.from_bytes(bytes(data[pick] for pick in picks), "little")


def run(assembly: str, word: int) -> list[int]:
    """The four output words for one input word."""
    registers = {"$4": word}

    def value(name: str) -> int:
        return registers[name] if name in registers else int(name, 0)

    for line in assembly.splitlines()[2:-1]:
        operation, _, rest = line.rstrip(";").partition(" ")
        target, *operands = (operand.strip() for operand in rest.split(","))
        first, *others = (value(operand) for operand in operands)
        registers[target] = {
            "mov.b32": lambda a: a,
            "shr.u32": lambda a, b: a >> b,
            "and.b32": lambda a, b: a & b,
            "or.b32": lambda a, b: a | b,
            "prmt.b32": lambda a, b, c: permute(a, b, c & 0xFFFF),
        }[operation](first, *others)
    return [registers[f"${number}"] for number in range(4)]


@pytest.mark.parametrize("place", range(4), ids="byte {}".format)
def test_permutation_gives_the_bits_of_the_table_for_every_byte(place: int) -> None:
    values = table(torch.device("cpu"), torch.bfloat16).view(torch.int16).tolist()
    assembly = prmt_assembly()
    for byte in range(256):
        data = [37, 194, 5, 255]
        data[place] = byte
        outputs = run(assembly, int.from_bytes(bytes(data), "little"))
        halves = [int.from_bytes(word.to_bytes(4, "little")[i : i + 2], "little") for word in outputs for i in (0, 2)]
        expected = [values[code >> 4] for code in data] + [values[code & 15] for code in data]
        assert halves == [code & 0xFFFF for code in expected]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_table_is_bitsandbytes_codebook(dtype: torch.dtype) -> None:
    assert torch.equal(table(torch.device("cpu"), dtype), bnb_functional.get_4bit_type("nf4", device="cpu").to(dtype))
