"""The computed tables of docs/cards.md: which cards are refused, and how the figures hang together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from model_loader.geometry import COMMITS, DEFAULT_MODEL, Geometry
from scripts.card_table import CARDS, SIZES_GIB, cards_table, geometry_of, images_per_s, models_table


@pytest.fixture(scope="module")
def geometry() -> Geometry:
    return geometry_of(DEFAULT_MODEL)


def test_every_card_has_a_row_and_those_that_cannot_be_used_say_why() -> None:
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in cards_table().splitlines()[2:]}
    assert list(rows) == [card.name for card in CARDS]
    refused = {name for name, line in rows.items() if "refused: 8.0 is needed" in line}
    assert refused == {"T4", "RTX 2080 Ti", "Quadro RTX 6000 (Turing)", "V100 32 GB", "P40"}
    assert all(line.count("|") == 7 for line in rows.values())
    takes = {name: line.split(" | ")[3] for name, line in rows.items()}
    assert (takes["RTX 4090"], takes["RTX 4080"], takes["RTX 3060 12 GB"]) == ("30B-A3B", "8B", "8B")
    assert takes["RTX 4060"] == "4B"


def test_every_chosen_model_has_a_row_and_runs_where_its_least_card_is_smaller() -> None:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in models_table().splitlines()[2:]]
    assert [row[0].strip("`") for row in rows] == [*COMMITS]
    for _, _, _, _, least, *slots in rows:
        assert [cell != "-" for cell in slots] == [float(least) <= size for size in SIZES_GIB.values()]


def test_a_dense_model_reads_all_its_weights_at_every_step() -> None:
    [card] = [card for card in CARDS if card.name == "RTX 3060 12 GB"]
    # 8 requests: 3.9 GB of packed linears, 1.2 GB of head, 1.5 GB of keys and values: 6.6 GB a step, at 0.7 * 360 GB/s
    # 26 ms, and 5; 99.6 steps and 8 prefills of 4.8e12 operations at 0.4 * 25e12 a second
    geometry = geometry_of("Qwen/Qwen3-VL-8B-Instruct")
    assert images_per_s(card, geometry, 8) == pytest.approx(8 / (99.6 * 0.031 + 8 * 0.48), rel=0.03)


def test_a_4090_gives_what_follows_by_hand_from_the_assumptions(geometry: Geometry) -> None:
    [card] = [card for card in CARDS if card.name == "RTX 4090"]
    # 36 requests: 90 % of the experts' 16.3 GB, 1.2 GB beside them and 4.6 GB of keys and values: 20.5 GB a step, at
    # 0.7 * 1008 GB/s 29 ms, and 5; 99.6 steps and 36 prefills of 2.5e12 operations at 0.4 * 165e12 a second
    assert images_per_s(card, geometry, 36) == pytest.approx(36 / (99.6 * 0.034 + 36 * 0.038), rel=0.03)


def test_more_requests_bandwidth_or_operations_never_make_a_card_slower(geometry: Geometry) -> None:
    card = CARDS[0]
    rates = [images_per_s(card, geometry, slots) for slots in (1, 2, 8, 32, 64, 256)]
    assert rates == sorted(rates)
    faster = replace(card, gb_per_s=2 * card.gb_per_s), replace(card, tflops=2 * card.tflops)
    assert all(images_per_s(one, geometry, 32) > images_per_s(card, geometry, 32) for one in faster)
