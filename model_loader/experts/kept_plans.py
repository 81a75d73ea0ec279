"""What calibration has measured, kept for the next start: trying all tiles takes longer than a start should.

A plan belongs to a card, its driver, the libraries that build kernels, the kernels themselves and the model's shapes:
where one of these is another, it is measured anew. A file that cannot be read or written costs that time and nothing
else; what is read is checked like any other plan before it serves. Raises nothing.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from model_loader.cards import read_signs
from model_loader.experts.plan import ExpertsPlan, Step, Tile
from model_loader.experts.trials import Bench

log = logging.getLogger(__name__)

NAME = "kernels.json"
MAX_PLANS = 16
"""The latest ones are kept."""


def facts(bench: Bench, linears: Iterable[tuple[int, int]], device: torch.device) -> dict[str, str]:
    """All that a plan depends on. `linears`: in and out of each."""
    card, module = torch.cuda.get_device_properties(device), bench.module
    experts = "none" if module is None else f"{(*module.gate_up_proj.shape, *module.down_proj.shape)} {bench.top_k}"
    code = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py"))))
    return {
        "card": f"{card.name} {card.major}.{card.minor} {card.multi_processor_count}",
        "driver": read_signs().driver,
        "torch": f"{torch.__version__} {torch.version.cuda}",
        "triton": _triton_version(),
        "experts": f"{experts} {bench.dtype}",
        "linears": str(sorted(linears)),
        "code": code.hexdigest()[:16],
    }


def _triton_version() -> str:
    try:
        return importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:  # then no kernel runs, and no plan is kept
        return ""


class KeptPlans:
    """In NAME in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / NAME

    def find(self, facts: Mapping[str, str]) -> ExpertsPlan | None:
        for kept in self._read():
            if kept.get("facts") == facts:
                try:
                    return _plan(kept["plan"])
                except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
                    log.warning("%s is damaged, kernels are measured anew: %s", self._file, error)
        return None

    def keep(self, facts: Mapping[str, str], plan: ExpertsPlan) -> None:
        others = [kept for kept in self._read() if kept.get("facts") != facts]
        kept = [*others, {"facts": dict(facts), "plan": asdict(plan)}][-MAX_PLANS:]
        unfinished = self._file.with_suffix(f".{os.getpid()}.unfinished")  # engines of several cards share a folder
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
            unfinished.replace(self._file)
        except OSError as error:
            log.warning("what was measured of the kernels is not kept, the next start measures it again: %s", error)

    def _read(self) -> list[dict[str, Any]]:
        try:
            read = json.loads(self._file.read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            return []
        return [kept for kept in read if isinstance(kept, dict)] if isinstance(read, list) else []


def _plan(read: Mapping[str, Any]) -> ExpertsPlan:
    """Of what `asdict` made, through JSON. Of anything else, raises what reading it leads to."""
    if not read["fused"]:
        raise ValueError("it has no steps")
    return ExpertsPlan(
        name=str(read["name"]),
        fused_max_tokens=int(read["fused_max_tokens"]),
        fused=tuple(map(_step, read["fused"])),
        dense=_step(read["dense"]),
        linear_max_rows=int(read["linear_max_rows"]),
    )


def _step(read: Mapping[str, Any]) -> Step:
    gate_up, down = (Tile(**{name: int(value) for name, value in read[at].items()}) for at in ("gate_up", "down"))
    return Step(int(read["max_tokens"]), int(read["block_m"]), gate_up, down)
