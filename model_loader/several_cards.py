"""Which of several cards is taken: the one that is named, else of those that can be used, and are worth the same to who
asks, the one with the most free memory.

What is free of a card only a process says that has a context on it, which takes memory of each: so all are looked at in
a process of its own, which ends. Nothing here raises, and importing this imports no torch.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from model_loader.cards import Card, find_card, held_card, num_cards, read_signs, settle
from model_loader.troubles import Trouble, trouble

_END_S = 10.0
LOOK_S = 180.0
"""torch is imported first, which takes some seconds, a minute from a slow disk."""

Found = Card | Trouble
Worth = Callable[[Card], int]


def the_same(card: Card) -> int:
    """The worth of a card to whom one is as good as another."""
    return 0


def choose_card(
    device: str | None = None,
    worth: Worth = the_same,
    *,
    count: Callable[[], int] = num_cards,
    find: Callable[[str | None], Found] = find_card,
    look: Callable[[], Sequence[Found]] | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> Found:
    """Return the card `device`, or for None the best of all, once programs that end have given their memory back.

    `worth` goes before free memory.
    """
    if device is not None or count() < 2:
        return settle(lambda: [find(device)], wait)[0]
    return best_of(settle(look or cards_beside, wait, worth=worth), worth)


def best_of(found: Sequence[Found], worth: Worth = the_same) -> Found:
    """Of the cards of `found` that are worth most the one with the most free memory, or why the first cannot be used.

    One that another program holds for itself alone, and that is worth more, is that: it is told, and may be waited for.
    They are in CUDA's order."""
    cards = [card for card in found if isinstance(card, Card)]
    best = max(cards, key=lambda card: (worth(card), card.free_gib), default=None)
    held = {number: worth(card) for number, one in enumerate(found) if (card := held_card(one)) is not None}
    first = max(held, key=lambda number: held[number], default=0)
    if best is None or (held and held[first] > worth(best)):
        return found[first]
    return replace(best, others=tuple(_said(n, one) for n, one in enumerate(found) if one is not best))


def _said(number: int, one: Found) -> str:
    if isinstance(one, Trouble):
        return f"cuda:{number}: {one}"
    return f"{one.label}: {one.free_gib:.1f} GiB free of {one.memory_gib:.1f}"


def look_at(device: str | None) -> list[Found]:
    """What `find_card` says of `device`, or of every card. Takes memory of each as long as this process lives."""
    if device is not None or num_cards() < 2:
        return [find_card(device)]
    return [find_card(f"cuda:{number}") for number in range(num_cards())]


def cards_beside(device: str | None = None, limit_s: float = LOOK_S) -> list[Found]:
    """As `look_at`, in a process of its own: a driver may never return, and takes whoever asks it along."""
    code = (
        "import sys, json, dataclasses as d; from model_loader.cards import Card; "
        "from model_loader.several_cards import look_at; "
        "print(json.dumps([[isinstance(one, Card), d.asdict(one)] for one in look_at(sys.argv[1] or None)]))"
    )
    command = [sys.executable, "-c", code, device or ""]
    asking = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - this Python, our own code
    try:
        said, _ = asking.communicate(timeout=limit_s)
        return [_from_json(*one) for one in json.loads(said.splitlines()[-1])]
    except subprocess.TimeoutExpired:
        asking.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # what waits for a driver may be beyond that, too
            asking.communicate(timeout=_END_S)
        return [trouble("card_silent", limit=f"{limit_s:.0f}")]
    except (ValueError, LookupError):
        signs = read_signs()
        ended = f"asking for it ended with exit code {asking.returncode}"
        return [trouble("card_error", said=ended, driver=signs.driver or "?", torch=signs.torch)]


def _from_json(is_card: bool, found: dict[str, object]) -> Found:
    make = Card if is_card else Trouble
    return make(**{name: tuple(value) if isinstance(value, list) else value for name, value in found.items()})  # type: ignore[arg-type]
