"""A temperature is found where there are labels enough, and few labels change little."""

from __future__ import annotations

import random

import pytest

from backend.quality.calibration import MIN_LABELS, fitted_temperature
from backend.quality.measures import calibration_error
from label_config.rating import calibrated


def field(num: int, temperature: float, seed: int = 1) -> list[tuple[float, bool]]:
    """Of which the true share right is what `temperature` makes of the confidence."""
    chance = random.Random(seed)
    confidences = [1 - chance.random() ** 3 / 2 for _ in range(num)]
    return [(c, chance.random() < calibrated(c, temperature)) for c in confidences]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_true_one_is_found_from_many(temperature: float) -> None:
    assert fitted_temperature(field(20_000, temperature)) == pytest.approx(temperature, rel=0.1)


def test_below_fifty_labels_nothing_changes() -> None:
    assert fitted_temperature(field(MIN_LABELS - 1, 5.0)) == 1.0
    assert fitted_temperature(field(MIN_LABELS - 1, 5.0), 3.217) == 3.217, "nor what is in force"
    assert fitted_temperature(field(MIN_LABELS, 5.0)) > 1.5


@pytest.mark.parametrize("is_right", [True, False])
def test_sixty_that_are_all_right_or_all_wrong_change_it_within_reason(is_right: bool) -> None:
    assert 0.1 < fitted_temperature([(0.9, is_right)] * 60) <= 20


def test_a_field_that_is_far_too_sure_is_told_so_from_200_labels() -> None:
    """On others than it was found on."""
    after = []
    for seed in range(20):
        temperature = fitted_temperature(field(200, 4.0, seed))
        rated = [(calibrated(c, temperature), is_right) for c, is_right in field(5_000, 4.0, 100 + seed)]
        after.append(calibration_error(rated) or 0.0)

    assert (calibration_error(field(5_000, 4.0)) or 0.0) > 0.09
    assert sum(after) / len(after) < 0.03
