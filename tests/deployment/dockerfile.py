"""The Dockerfile as instructions, in order."""

from __future__ import annotations

import re
from itertools import pairwise

from scripts.compose import ROOT

Instruction = tuple[str, str]
"""Its name in capitals, and the rest of its line; continued lines are one."""


def stages() -> dict[str, list[Instruction]]:
    """The instructions of each stage by its name ("" for the last), each beginning with its FROM."""
    text = (ROOT / "Dockerfile").read_text("utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
    lines = [line for line in re.sub(r"\\\n\s*", "", text).splitlines() if line]
    instructions = [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]
    starts = [i for i, (name, _) in enumerate(instructions) if name == "FROM"]
    found = (instructions[start:end] for start, end in pairwise([*starts, len(instructions)]))
    return {stage[0][1].partition(" AS ")[2]: stage for stage in found}


def last_stage() -> list[Instruction]:
    return stages()[""]
