"""Of several cards the one with the most free memory that can be used is taken, and it is said which, and why."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest

from model_loader.cards import Card
from model_loader.choice import choose_model, worth_to
from model_loader.errors import ModelTooLarge
from model_loader.several_cards import Found, best_of, cards_beside, choose_card
from model_loader.troubles import trouble
from tests.limits import RUN_S


def card(number: int, free_gib: float, memory_gib: float = 24.0, name: str = "Some Card") -> Card:
    return Card(name, memory_gib, free_gib, (8, 9), number, f"cuda:{number}, PCI 00000000:4{number}:00.0")


OLD = trouble("card_too_old", card="Tesla T4 (cuda:0)", capability="7.5")
BUSY = trouble("card_busy", card=" Some Card (cuda:1)", memory="24.0", capability="8.9")
BUSY_T4 = trouble("card_busy", card=" Tesla T4 (cuda:1)", memory="15.0", capability="7.5")
DENSE_8B, MOE = "Qwen/Qwen3-VL-8B-Instruct", "Qwen/Qwen3-VL-30B-A3B-Instruct"


@pytest.mark.parametrize(
    ("found", "number", "others"),
    [
        ([card(0, 23.5), card(1, 23.5)], 0, "Some Card (cuda:1, PCI 00000000:41:00.0): 23.5 GiB free of 24.0"),
        ([card(0, 3.0), card(1, 23.5)], 1, "Some Card (cuda:0, PCI 00000000:40:00.0): 3.0 GiB free of 24.0"),
        ([card(0, 11.5, 12.0), card(1, 79.0, 80.0)], 1, "(cuda:0, PCI 00000000:40:00.0): 11.5 GiB free of 12.0"),
        ([card(0, 79.0, 80.0), card(1, 23.5)], 0, "(cuda:1, PCI 00000000:41:00.0): 23.5 GiB free"),
        ([OLD, card(1, 4.0)], 1, "cuda:0: Tesla T4 (cuda:0) has compute capability 7.5"),
        ([BUSY, card(1, 4.0)], 1, "cuda:0: Another program holds the card Some Card (cuda:1) for itself alone"),
    ],
)
def test_the_card_with_the_most_free_memory_that_can_be_used_is_taken(
    found: Sequence[Found], number: int, others: str
) -> None:
    best = best_of(found)
    assert isinstance(best, Card)
    assert best.number == number
    [other] = best.others
    assert others in other


def test_where_no_card_can_be_used_the_first_says_why() -> None:
    assert best_of([OLD, BUSY_T4]) == OLD


@pytest.mark.parametrize(
    ("found", "wanted", "is_waited_for"),
    [
        ([card(0, 11.5, 12.0), BUSY], "auto", True),  # else each start might load another model
        ([card(0, 11.5, 12.0), BUSY], MOE, True),  # which the other never holds
        ([card(0, 11.5, 12.0), BUSY], DENSE_8B, False),
        ([card(0, 11.5, 12.0), BUSY], "somebody/else", False),  # whose numbers are not here
        ([card(0, 23.5), BUSY], "auto", False),
        ([card(0, 79.0, 80.0), BUSY], "auto", False),
        ([OLD, BUSY], "auto", True),  # an old one does not pass
        ([OLD, BUSY], DENSE_8B, True),
    ],
)
def test_a_card_that_another_program_holds_for_itself_alone_is_no_reason_for_another_model_or_an_end(
    found: Sequence[Found], wanted: str, is_waited_for: bool
) -> None:
    assert (best_of(found, worth_to(wanted)) == BUSY) is is_waited_for


@pytest.mark.parametrize("free_gib", [3.0, 11.0, 23.5])
def test_a_model_that_is_named_is_not_refused_for_a_smaller_card_that_has_more_free(free_gib: float) -> None:
    """As after a fault, when what `auto` was is named."""
    look = partial(
        choose_card, count=lambda: 2, look=lambda: [card(0, free_gib), card(1, 11.5, 12.0)], wait=lambda seconds: None
    )
    choice = choose_model(MOE, look=look)
    assert choice.device == "cuda:0"


@pytest.mark.parametrize(
    ("free_gib", "model", "number"),
    [
        ((23.5, 11.5, 11.5), "30B-A3B", 0),
        ((4.0, 11.5, 11.5), "other programs leave 4.0 of the card's 24.0 GiB", 0),
        ((4.0, 11.5, 79.0), "30B-A3B", 2),
        ((20.0, 11.5, 19.5), "30B-A3B", 0),
    ],
)
def test_auto_takes_the_same_model_whatever_other_programs_hold_of_the_cards(
    free_gib: tuple[float, ...], model: str, number: int
) -> None:
    sizes = (24.0, 12.0, 80.0 if free_gib[2] > 12 else 12.0)
    cards = [card(n, free, size) for n, (free, size) in enumerate(zip(free_gib, sizes, strict=True))]
    look = partial(choose_card, count=lambda: 3, look=lambda: cards, wait=lambda seconds: None)
    try:
        choice = choose_model("auto", look=look)
    except ModelTooLarge as error:
        said = str(error)
    else:
        said = choice.model
        assert choice.device == f"cuda:{number}"
    assert model in said
    named = choose_model("Qwen/Qwen3-VL-8B-Instruct", look=look)
    assert named.card is not None
    assert named.card.free_gib == max(free_gib)


@pytest.mark.parametrize(("model", "which"), [("auto", "hold it"), ("Qwen/Qwen3-VL-8B-Instruct", "can be used")])
def test_it_is_said_which_card_was_taken_and_why(model: str, which: str) -> None:
    best = best_of([card(0, 3.0), card(1, 23.5)])
    choice = choose_model(model, look=lambda device, worth: best)
    assert choice.device == "cuda:1"
    assert "Some Card (cuda:1, PCI 00000000:41:00.0)" in choice.reason
    assert choice.reason.endswith(
        f"Of 2 cards it has the most free memory of those that {which}, 23.5 GiB; Some Card (cuda:0, PCI "
        "00000000:40:00.0): 3.0 GiB free of 24.0. PRELABEL_DEVICE names another"
    )


def test_a_card_that_is_named_is_taken_whatever_the_others_have() -> None:
    named = choose_card("cuda:0", count=lambda: 2, find=lambda device: card(0, 23.0), look=list)
    assert named == card(0, 23.0)
    assert choose_card("cuda:0", count=lambda: 2, find=lambda device: OLD, look=list) == OLD


@pytest.mark.parametrize("model", ["auto", "Qwen/Qwen3-VL-8B-Instruct"])
def test_a_card_that_is_named_is_said_to_be(model: str) -> None:
    choice = choose_model(model, device="cuda:1", look=lambda device, worth: card(1, 23.5))
    assert "Some Card (cuda:1, PCI 00000000:41:00.0)" in choice.reason
    assert choice.reason.endswith(". PRELABEL_DEVICE names this card")


def test_a_single_card_is_asked_in_this_process_and_named_without_more() -> None:
    single = Card("Some Card", 24.0, 23.5, (8, 9))
    found = choose_card(count=lambda: 1, find=lambda device: single, look=list)
    assert found == single
    assert choose_model("auto", look=lambda device, worth: single).device == "cuda"


def test_a_large_card_that_a_killed_engine_leaves_is_waited_for() -> None:
    looks = iter([[card(0, 3.0), card(1, 7.9, 8.0)], [card(0, 23.5), card(1, 7.9, 8.0)]])
    found = choose_card(count=lambda: 2, look=lambda: next(looks), wait=lambda seconds: None)
    assert isinstance(found, Card)
    assert found.number == 0


@pytest.mark.parametrize(
    ("found", "wanted", "num_looks"),
    [
        ([card(0, 3.0), card(1, 23.5)], "auto", 1),  # a job that always fills one like it
        ([card(0, 3.0), card(1, 23.5), card(2, 1.0)], "auto", 1),
        ([card(0, 3.0), card(1, 23.5)], "Qwen/Qwen3-VL-8B-Instruct", 1),
        ([card(0, 3.0, 12.0), card(1, 23.5)], "auto", 1),  # a smaller one
        ([card(0, 23.5), card(1, 3.0, 80.0)], "auto", 2),  # what would be taken if it were left
        ([card(0, 11.5, 12.0), card(1, 3.0)], "auto", 2),
        ([card(0, 12.0), card(1, 3.0)], "auto", 2),  # the best itself is not free yet
    ],
)
def test_cards_are_looked_at_again_only_where_another_may_be_taken_then(
    found: Sequence[Found], wanted: str, num_looks: int
) -> None:
    looks: list[Sequence[Found]] = []

    def look() -> Sequence[Found]:
        looks.append(found)
        return found

    first = choose_card(None, worth_to(wanted), count=lambda: len(found), look=look, wait=lambda seconds: None)
    assert first == best_of(found, worth_to(wanted))
    assert len(looks) == num_looks


def test_cards_are_looked_at_in_another_process() -> None:
    assert len(cards_beside(None, RUN_S)) >= 1
