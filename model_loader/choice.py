"""Which model is loaded, and on what: a card, or the CPU.

`auto` becomes the 30B where a card holds it, else the built-in model. Where there is a card that cannot be used, only
the built-in model runs, and only for who asked for it by name: nobody gets answers of another model in silence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from model_loader.cards import Card, find_card, judge_memory
from model_loader.errors import CardUnusable, ModelTooLarge
from model_loader.geometry import DEFAULT_MODEL, geometry_from_config
from model_loader.sources import AUTO, GARMENTS, find_config
from model_loader.troubles import Trouble, trouble


@dataclass(frozen=True, slots=True)
class Choice:
    """`device` is "cpu", "cuda" or "cuda:1"; on a CPU `card` is None. `reason` is for people."""

    model: str
    device: str
    card: Card | None
    reason: str


def choose_model(
    requested: str,
    *,
    device: str | None = None,
    vram_gib: float | None = None,
    look: Callable[[str | None], Card | Trouble] = find_card,
) -> Choice:
    """Return what to load for `requested`; anything but "auto" is taken as asked.

    `device` is what was asked for, None for a card if there is one. `vram_gib`: the share of the card to stay within.
    Raises CardUnusable, and ModelTooLarge where only other programs on the card are in the way.
    """
    if device == "cpu":
        return _on_cpu(requested, "the CPU was asked for")
    found = look(device)
    if isinstance(found, Card):
        return _on_card(requested, device or "cuda", found, vram_gib)
    if found.code == "card_none":
        if device is None:
            return _on_cpu(requested, str(found))
        found = trouble("card_missing", device=device)
    if device is None and requested == GARMENTS:
        return Choice(GARMENTS, "cpu", None, f"as asked, on the CPU. {found}")
    raise CardUnusable(f"{found} Or do without a card: PRELABEL_DEVICE=cpu.")


def _on_cpu(requested: str, why: str) -> Choice:
    if requested == AUTO:
        return Choice(GARMENTS, "cpu", None, f"{why}, so the small built-in model is used")
    return Choice(requested, "cpu", None, "as asked")


def _on_card(requested: str, device: str, card: Card, vram_gib: float | None) -> Choice:
    if requested != AUTO:
        return Choice(requested, device, card, "as asked")
    plan, found = judge_memory(geometry_from_config(find_config(AUTO)), card, vram_gib=vram_gib)
    if found is not None and found.code == "memory_too_small":
        return Choice(GARMENTS, device, card, f"{DEFAULT_MODEL} on {card.name}: {found}")
    if found is not None and found.refuses:
        raise ModelTooLarge(str(found))
    return Choice(DEFAULT_MODEL, device, card, f"{card.name} holds it, with {plan.num_slots} requests at a time")
