"""Which model is loaded for what was asked, on what, and what is refused instead of served by another model."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from model_loader.cards import Card
from model_loader.choice import choose_model
from model_loader.errors import CardUnusable, ModelTooLarge
from model_loader.geometry import COMMITS, DEFAULT_MODEL, geometry_from_config
from model_loader.memory import GIB, Request, plan_memory
from model_loader.several_cards import Worth
from model_loader.sources import find_config
from model_loader.troubles import Trouble, trouble

DENSE_8B, DENSE_4B, DENSE_2B = (f"Qwen/Qwen3-VL-{size}-Instruct" for size in ("8B", "4B", "2B"))
NO_CARD = trouble("card_none")
OLD_DRIVER = trouble("card_driver_old", driver="550.54.14", torch="2.13.0", cuda="13.0", needed="580.65.06")
OLD_CARD = trouble("card_too_old", card="Tesla T4", capability="7.5")


def finds(found: Card | Trouble) -> Callable[[str | None, Worth], Card | Trouble]:
    return lambda device, worth: found


def card(memory_gib: float, free_gib: float | None = None) -> Card:
    return Card("Some Card", memory_gib, memory_gib if free_gib is None else free_gib, (8, 9))


@pytest.mark.parametrize("model", ["garments", DEFAULT_MODEL, "/models/mine"])
@pytest.mark.parametrize(
    ("found", "device", "reason"),
    [(NO_CARD, "cpu", "as asked"), (card(24.0), "cuda", "as asked, on Some Card")],
    ids=["no card", "a card"],
)
def test_a_named_model_is_taken_as_asked(model: str, found: Card | Trouble, device: str, reason: str) -> None:
    """CUDA may count the cards in another order than nvidia-smi: the name says which it is."""
    choice = choose_model(model, look=finds(found))
    assert (choice.model, choice.device, choice.reason) == (model, device, reason)


@pytest.mark.parametrize(
    ("found", "vram_gib", "model", "reason"),
    [
        pytest.param(card(23.6), None, DEFAULT_MODEL, "Some Card holds it, with", id="a 24 GB card"),
        pytest.param(card(15.8), None, DENSE_8B, "the best that Some Card holds, with 128 requests at a time; "
                     f"{DEFAULT_MODEL} needs more than its 15.8 GiB", id="a 16 GB card"),
        pytest.param(card(11.6), None, DENSE_8B, "with 73 requests at a time", id="a 12 GB card"),
        pytest.param(card(7.6), None, DENSE_4B, "with 52 requests at a time", id="an 8 GB card"),
        pytest.param(card(4.5), None, DENSE_2B, "the best that Some Card holds", id="a 4.5 GB card"),
        pytest.param(card(80.0), 12.0, DENSE_8B, "needs more than the 12.0 GiB of PRELABEL_VRAM_GIB",
                     id="a large card with a small share"),
        pytest.param(card(15.8, 9.9), None, DENSE_8B, "the best that", id="a 16 GB card in use, with room"),
        pytest.param(card(23.6), 80.0, DEFAULT_MODEL, "holds it", id="a share larger than the card"),
        pytest.param(card(23.6, 20.5), None, DEFAULT_MODEL, "holds it", id="a card that is in use, with room"),
        pytest.param(NO_CARD, None, "garments", "this machine has no CUDA card, so the small", id="no card"),
    ],
)  # fmt: skip
def test_auto_follows_the_memory_plan(found: Card | Trouble, vram_gib: float | None, model: str, reason: str) -> None:
    choice = choose_model("auto", vram_gib=vram_gib, look=finds(found))
    assert choice.model == model
    assert reason in choice.reason
    assert choice.card == (found if isinstance(found, Card) else None)


@pytest.mark.parametrize("memory_gib", [3.6, 5.0, 5.2, 9.0, 9.2, 19.0, 19.2, 24.0, 80.0])
def test_auto_takes_the_first_of_the_chosen_models_that_fits(memory_gib: float) -> None:
    def needs(model: str) -> float:
        return plan_memory(geometry_from_config(find_config(model))).needed_bytes / GIB

    assert choose_model("auto", look=finds(card(memory_gib))).model == next(
        model for model in COMMITS if needs(model) <= memory_gib
    )


def test_what_is_answered_counts_when_auto_looks_for_a_model_that_fits() -> None:
    large = Request(image_tokens=4096, longest_tokens=7168)
    assert choose_model("auto", look=finds(card(9.3))).model == DENSE_8B
    assert choose_model("auto", request=large, look=finds(card(9.3))).model == DENSE_4B


@pytest.mark.parametrize(
    ("found", "vram_gib", "why"),
    [
        (card(3.4), None, r"the card offers 3\.4 GiB"),
        (card(24.0), 3.4, r"PRELABEL_VRAM_GIB allows 3\.4 of the card's 24\.0 GiB"),
    ],
)
def test_a_card_that_holds_no_model_is_refused_and_not_given_the_built_in_one(
    found: Card, vram_gib: float | None, why: str
) -> None:
    told = (
        r"Some Card holds no Qwen3-VL\. The smallest is Qwen/Qwen3-VL-2B-Instruct: At least 3\.5 GiB are needed, and "
        rf"{why}\. .*PRELABEL_MODEL=garments always fits"
    )
    with pytest.raises(ModelTooLarge, match=told):
        choose_model("auto", vram_gib=vram_gib, look=finds(found))


def test_auto_refuses_a_card_that_other_programs_fill() -> None:
    with pytest.raises(ModelTooLarge, match=rf"{DEFAULT_MODEL}.* other programs leave 4\.0 of the card's 23\.6 GiB"):
        choose_model("auto", look=finds(card(23.6, 4.0)))


@pytest.mark.parametrize("model", ["auto", DEFAULT_MODEL])
@pytest.mark.parametrize(
    ("found", "told"), [(OLD_DRIVER, "550.54.14 is too old: torch 2.13.0"), (OLD_CARD, "Tesla T4")]
)
def test_a_card_that_cannot_be_used_is_refused_by_name_and_not_replaced_by_the_small_model(
    model: str, found: Trouble, told: str
) -> None:
    with pytest.raises(CardUnusable, match=rf"{told}.* Or do without a card: PRELABEL_DEVICE=cpu\.$"):
        choose_model(model, look=finds(found))


def test_the_built_in_model_runs_beside_a_card_that_cannot_be_used_for_who_asked_for_it() -> None:
    choice = choose_model("garments", look=finds(OLD_CARD))
    assert (choice.model, choice.device) == ("garments", "cpu")
    assert "on the CPU. Tesla T4 has compute capability 7.5" in choice.reason


@pytest.mark.parametrize("model", ["auto", "garments"])
@pytest.mark.parametrize(("found", "told"), [(NO_CARD, "PRELABEL_DEVICE=cuda:1, but no CUDA card"), (OLD_CARD, "T4")])
def test_a_card_that_was_asked_for_is_not_replaced_by_the_cpu(model: str, found: Trouble, told: str) -> None:
    with pytest.raises(CardUnusable, match=told):
        choose_model(model, device="cuda:1", look=finds(found))


def test_a_cpu_that_was_asked_for_is_taken_whatever_cards_there_are() -> None:
    def nobody(device: str | None, worth: Worth) -> Card | Trouble:
        raise AssertionError("it must not be asked for")

    assert choose_model("auto", device="cpu", look=nobody).model == "garments"
    assert choose_model(DEFAULT_MODEL, device="cpu", look=nobody).device == "cpu"
