"""`prelabel doctor`: does this model fit this card, and what does this machine have. Downloads nothing.

Prints a table for people, or one JSON object with `--json`. The exit code says the verdict: 0 it fits (or no card was
named and none was found), 1 it does not fit, 2 the model's numbers cannot be found or read.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from model_loader.errors import ModelError
from model_loader.geometry import DEFAULT_MODEL, geometry_from_config
from model_loader.memory import GIB, SIXTEEN_BIT, MemoryPlan, Request, plan_memory
from model_loader.sources import AUTO, Card, find_card, find_config

EXIT_FITS, EXIT_TOO_LARGE, EXIT_UNKNOWN_MODEL = 0, 1, 2
PACKAGES = ("torch", "transformers", "bitsandbytes")


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine has. `versions` maps a package to its version, or to "" if it is not installed."""

    card: Card | None
    versions: dict[str, str]
    disk_free_bytes: int
    disk_folder: Path


def doctor(model: str = AUTO, vram_gib: float | None = None, image_tokens: int = 256, json_output: bool = False) -> int:
    """Print the memory plan of `model` on a card of `vram_gib` GiB and return the exit code."""
    model = DEFAULT_MODEL if model == AUTO else model
    machine = inspect_machine()
    if vram_gib is None and machine.card is not None:
        vram_gib = machine.card.memory_gib
    try:
        geometry = geometry_from_config(find_config(model))
    except ModelError as error:
        _print_error(str(error), json_output=json_output)
        return EXIT_UNKNOWN_MODEL
    plan = plan_memory(geometry, vram_gib=vram_gib, request=Request(image_tokens=image_tokens))
    if json_output:
        print(json.dumps(report(model, plan), indent=2))
    else:
        _print_tables(model, plan, machine)
    return EXIT_TOO_LARGE if plan.fits is False else EXIT_FITS


def report(model: str, plan: MemoryPlan) -> dict[str, Any]:
    """The plan as one JSON-able object: GiB rounded to 1/100, parameters in billions as well as exact."""
    parts = {part.name: part for part in plan.parts}
    return {
        "model": model,
        "fits": plan.fits,
        "num_params": plan.num_params,
        "params_billion": round(plan.num_params / 1e9, 2),
        "experts_params_billion": round(parts["experts"].num_params / 1e9, 2),
        "gib": {name: _gib(part.size_bytes) for name, part in parts.items()},
        "weights_gib": _gib(plan.weights_bytes),
        "workspace_gib": _gib(plan.workspace_bytes),
        "kv_slot_gib": round(plan.kv_slot_bytes / GIB, 4),
        "kv_slot_tokens": plan.request.tokens,
        "image_tokens": plan.request.image_tokens,
        "needed_gib": _gib(plan.needed_bytes),
        "vram_gib": None if plan.vram_bytes is None else _gib(plan.vram_bytes),
        "free_for_kv_gib": None if plan.free_bytes is None else _gib(plan.free_bytes),
        "num_slots": plan.num_slots,
        "naive_load_in_4bit_gib": _gib(plan.naive_bytes),
        "sixteen_bit_gib": _gib(_download_bytes(plan)),
    }


def inspect_machine() -> Machine:
    """Look at the card, the installed versions, and the disk the download would go to."""
    folder = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    return Machine(
        card=find_card(),
        versions={name: _version(name) for name in PACKAGES},
        disk_free_bytes=shutil.disk_usage(existing).free,
        disk_folder=folder,
    )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _print_tables(model: str, plan: MemoryPlan, machine: Machine) -> None:
    console = Console()
    console.print(_plan_table(model, plan))
    console.print(_verdict(plan))
    console.print(_machine_table(plan, machine))


def _plan_table(model: str, plan: MemoryPlan) -> Table:
    table = Table(title=f"{model}: {plan.num_params / 1e9:.2f} B parameters", title_justify="left")
    table.add_column("part")
    table.add_column("parameters", justify="right")
    table.add_column("GiB", justify="right")
    table.add_column("how")
    for part in plan.parts:
        count = f"{part.num_params / 1e9:.3f} B" if part.num_params else ""
        table.add_row(part.name.replace("_", " "), count, f"{part.size_bytes / GIB:.2f}", part.note)
    table.add_section()
    slot = f"one request: {plan.request.tokens} tokens, {plan.request.image_tokens} of them the picture"
    table.add_row("KV cache slot", "", f"{plan.kv_slot_bytes / GIB:.2f}", slot)
    table.add_row("least needed", "", f"{plan.needed_bytes / GIB:.2f}", "weights, workspace and one slot")
    table.add_row("naive load_in_4bit", "", f"{plan.naive_bytes / GIB:.2f}", "transformers alone: experts stay 16 bit")
    return table


def _verdict(plan: MemoryPlan) -> str:
    if plan.vram_bytes is None:
        return "No card found; name one with --vram-gib."
    card = f"{plan.vram_bytes / GIB:.1f} GiB"
    if plan.fits:
        free = (plan.free_bytes or 0) / GIB
        return f"[bold]Fits[/bold] {card}: {free:.2f} GiB left for the KV cache = {plan.num_slots} requests at a time."
    return f"[bold]Does not fit[/bold] {card}: at least {plan.needed_bytes / GIB:.1f} GiB are needed."


def _machine_table(plan: MemoryPlan, machine: Machine) -> Table:
    table = Table(title="This machine", title_justify="left", show_header=False)
    card = machine.card
    table.add_row("CUDA card", f"{card.name}, {card.memory_gib:.1f} GiB" if card else "none")
    for name, version in machine.versions.items():
        table.add_row(name, version or "not installed")
    needed, free = _download_bytes(plan), machine.disk_free_bytes
    room = (
        f"{free / GIB:.0f} GiB free; a first download needs about {needed / GIB:.0f} GiB, "
        f"and the 4-bit copy in the data folder {plan.weights_bytes / GIB:.0f} GiB more"
    )
    table.add_row(f"disk at {machine.disk_folder}", room + ("" if free > needed else ": too little"))
    return table


def _print_error(message: str, *, json_output: bool) -> None:
    if json_output:
        print(json.dumps({"fits": None, "error": message}))
    else:
        Console(stderr=True).print(message, markup=False)


def _download_bytes(plan: MemoryPlan) -> int:
    return round(plan.num_params * SIXTEEN_BIT)


def _gib(size_bytes: int) -> float:
    return round(size_bytes / GIB, 2)
