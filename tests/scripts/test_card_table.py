"""The computed table of docs/cards.md: which cards it refuses, and how its figures hang together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from model_loader.geometry import DEFAULT_MODEL, Geometry, geometry_from_config
from model_loader.sources import find_config
from scripts.card_table import CARDS, cards_table, images_per_s


@pytest.fixture(scope="module")
def geometry() -> Geometry:
    return geometry_from_config(find_config(DEFAULT_MODEL))


def test_every_card_has_a_row_and_those_that_cannot_be_used_say_why() -> None:
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in cards_table().splitlines()[2:]}
    assert list(rows) == [card.name for card in CARDS]
    refused = {name for name, line in rows.items() if "refused: 8.0 is needed" in line}
    assert refused == {"T4", "RTX 2080 Ti", "Quadro RTX 6000 (Turing)", "V100 32 GB", "P40"}
    assert {name for name, line in rows.items() if "GiB are needed" in line} == {"RTX 4080, 5080"}
    assert all(line.count("|") == 6 for line in rows.values())


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
