"""What is looked at before any weight is fetched or read: the architecture, the card, this machine's memory, its disks.

What cannot work is refused, what is tight is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from model_loader.cards import Card, judge_memory
from model_loader.disks import disks_of, rooms
from model_loader.errors import MachineUnfit, ModelError, ModelTooLarge, UnsupportedModel
from model_loader.folders import unwritable_folders
from model_loader.geometry import ARCHITECTURES, geometry_from_config
from model_loader.host import available_bytes, judge_host_memory
from model_loader.memory import MAX_SLOTS, Request, plan_memory
from model_loader.troubles import Trouble
from model_loader.unused import unused_files

log = logging.getLogger(__name__)

Quantisation = Literal["nf4", "none"]


def check_fits(
    config: Mapping[str, Any],
    *,
    card: Card | None,
    vram_gib: float | None = None,
    quantisation: Quantisation = "nf4",
    request: Request | None = None,
    max_slots: int = MAX_SLOTS,
) -> None:
    """Raise UnsupportedModel for another architecture, ModelTooLarge if it does not fit what is free of `card`.

    On a CPU `card` is None. `request`: what is to be answered, `max_slots` of them at once if there is room.
    """
    geometry = geometry_from_config(config)
    named, ours = config.get("architectures"), ARCHITECTURES[config["model_type"]]
    if named not in (None, [ours]):
        raise UnsupportedModel(f"config.json names the architecture {repr(named)[:200]}; prelabel loads {ours}")
    if card is None:
        return
    _, against = judge_memory(
        geometry, card, vram_gib=vram_gib, quantisation=quantisation, request=request, max_slots=max_slots
    )
    _heed(against, ModelTooLarge)


def check_host_memory(
    config: Mapping[str, Any],
    *,
    on_card: bool,
    quantisation: Quantisation = "nf4",
    available: Callable[[], int | None] = available_bytes,
) -> None:
    """Raise MachineUnfit where this machine's own memory cannot suffice."""
    geometry = geometry_from_config(config)
    found = judge_host_memory(geometry, available(), on_card=on_card, quantisation=quantisation)
    _heed(found, MachineUnfit)


def check_folders(source: str, revision: str | None, copies: Path | None, *, on_card: bool) -> None:
    """Raise MachineUnfit where a folder cannot be written that this start puts something into."""
    found = unwritable_folders(source, revision, copies, on_card=on_card)
    for another in found[1:]:
        log.error("%s", another)
    if found:
        raise MachineUnfit(found[0])


def tell_of_disks(config: Mapping[str, Any], source: str, revision: str | None, parent: Path) -> None:
    """Log where there is little room. What cannot be downloaded the hub's own sizes refuse, which are exact."""
    plan = plan_memory(geometry_from_config(config))
    for room in rooms(source, revision, plan, *disks_of(source, parent)):
        if (found := room.trouble()) is not None:
            log.warning("%s", found)


def tell_of_unused(source: str, revision: str | None, parent: Path) -> None:
    """Log what lies beside what this start takes."""
    for found in unused_files(source, revision, parent):
        log.info("%s", found)


def _heed(found: Trouble | None, kind: type[ModelError]) -> None:
    if found is None:
        return
    if found.refuses:
        raise kind(found)
    log.warning("%s", found)
