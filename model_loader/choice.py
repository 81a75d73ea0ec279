"""Which model is loaded, and on what: a card, or the CPU.

`auto` becomes the best model that a card holds, the built-in one where there is no card. Of several cards it takes one
that holds the best model, whatever is free of it: else each start might load another. Where there is a card that
cannot be used, or is too small for all, only the built-in model runs, and only for who asked for it by name: nobody
gets answers of another model in silence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from model_loader.cards import TOO_SMALL, Card, judge_memory
from model_loader.errors import CardUnusable, ModelError, ModelTooLarge
from model_loader.geometry import COMMITS, DEFAULT_MODEL, geometry_from_config
from model_loader.memory import GIB, MAX_SLOTS, MemoryPlan, Request
from model_loader.several_cards import Worth, choose_card, the_same
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
    request: Request | None = None,
    max_slots: int = MAX_SLOTS,
    look: Callable[[str | None, Worth], Card | Trouble] = choose_card,
) -> Choice:
    """Return what to load for `requested`; anything but "auto" is taken as asked.

    `device` is what was asked for, None for a card if there is one. `vram_gib`: the share of the card to stay within,
    for as many of `request` as there is room for, `max_slots` at most. Raises CardUnusable, and ModelTooLarge where
    the card is too small for every model, or other programs on it are in the way.
    """
    if device == "cpu":
        return _on_cpu(requested, "the CPU was asked for")
    worth = worth_to(requested, vram_gib=vram_gib, request=request, max_slots=max_slots)
    found = look(device, worth)
    if isinstance(found, Card):
        named = ". PRELABEL_DEVICE names this card" if device else ""
        device = device or (f"cuda:{found.number}" if found.others else "cuda")
        if requested != AUTO:
            before = named or _before_others(found, "can be used")
            return Choice(requested, device, found, f"as asked, on {found.label}{before}")
        model, plan, against = best_on(found, vram_gib=vram_gib, request=request, max_slots=max_slots)
        if against is not None and against.refuses:
            raise ModelTooLarge(_why_none(model, found, against), against)
        return Choice(model, device, found, _why(model, found, plan) + (named or _before_others(found, "hold it")))
    if found.code == "card_none":
        if device is None:
            return _on_cpu(requested, str(found))
        found = trouble("card_missing", device=device)
    if device is None and requested == GARMENTS:
        return Choice(GARMENTS, "cpu", None, f"as asked, on the CPU. {found}")
    raise CardUnusable(f"{found} Or do without a card: PRELABEL_DEVICE=cpu.", found)


def _on_cpu(requested: str, why: str) -> Choice:
    if requested == AUTO:
        return Choice(GARMENTS, "cpu", None, f"{why}, so the small built-in model is used")
    return Choice(requested, "cpu", None, "as asked")


def best_on(
    card: Card,
    *,
    vram_gib: float | None = None,
    request: Request | None = None,
    max_slots: int = MAX_SLOTS,
) -> tuple[str, MemoryPlan, Trouble | None]:
    """Return what `auto` is on `card`: the first of COMMITS that it is large enough for, the last if it is for none.

    Also its plan, and what speaks against it. What other programs hold at this moment changes neither: it would be
    another model at each start.
    """
    for model in COMMITS:
        geometry = geometry_from_config(find_config(model))
        plan, against = judge_memory(geometry, card, vram_gib=vram_gib, request=request, max_slots=max_slots)
        if against is None or against.code not in TOO_SMALL:
            break
    return model, plan, against


def worth_to(
    requested: str, *, vram_gib: float | None = None, request: Request | None = None, max_slots: int = MAX_SLOTS
) -> Worth:
    """What a card is worth to who asks for `requested`: to "auto" the more the better the model is that it holds, to a
    model that was named as much as any other that is large enough for it."""
    wanted = partial(judge_memory, vram_gib=vram_gib, request=request, max_slots=max_slots)
    if requested == AUTO:
        best = partial(best_on, vram_gib=vram_gib, request=request, max_slots=max_slots)
        return lambda card: -list(COMMITS).index(best(card)[0])
    try:
        geometry = geometry_from_config(find_config(requested))
    except (ModelError, OSError):  # its numbers are not here yet, or whoever reads them next says what they are
        return the_same
    return lambda card: int((against := wanted(geometry, card)[1]) is None or against.code not in TOO_SMALL)


def _before_others(card: Card, which: str) -> str:
    """`which`: of which cards it is the best."""
    if not card.others:
        return ""
    return (
        f". Of {len(card.others) + 1} cards it has the most free memory of those that {which}, "
        f"{card.free_gib:.1f} GiB; {'; '.join(card.others)}. PRELABEL_DEVICE names another"
    )


def _why(model: str, card: Card, plan: MemoryPlan) -> str:
    at_once = f"{plan.num_slots} request{'' if plan.num_slots == 1 else 's'} at a time"
    if model == DEFAULT_MODEL:
        return f"{card.label} holds it, with {at_once}"
    room_bytes = plan.vram_bytes or 0
    is_share = room_bytes < round(card.memory_gib * GIB)
    return (
        f"the best that {card.label} holds, with {at_once}; {DEFAULT_MODEL} needs more than "
        f"{'the' if is_share else 'its'} {room_bytes / GIB:.1f} GiB{' of PRELABEL_VRAM_GIB' if is_share else ''}"
    )


def _why_none(model: str, card: Card, against: Trouble) -> str:
    if against.code not in TOO_SMALL:
        return f"{model}: {against}"
    return f"{card.label} holds no Qwen3-VL. The smallest is {model}: {against}"
