"""Number ranges as patterns, against counting."""

from __future__ import annotations

import json
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from label_config.errors import UnsupportedConfig
from label_config.numbers import Numbers


def number_pattern(minimum: float | None, maximum: float | None, step: float | None) -> str:
    return Numbers.of(minimum, maximum, step).pattern()


def _written(units: int, decimals: int) -> str:
    whole, rest = divmod(units, 10**decimals)
    return str(whole) if rest == 0 else json.dumps(units / 10**decimals)


@pytest.mark.parametrize(("step", "decimals"), [(1.0, 0), (0.1, 1), (None, 2), (0.001, 3)], ids=str)
def test_a_range_holds_the_numbers_that_counting_finds(step: float | None, decimals: int) -> None:
    chance = random.Random(decimals)
    scale = 10**decimals
    for _ in range(15):
        reach = 1_500 if decimals < 2 else 3 * scale
        low, high = sorted((chance.randint(-reach, reach), chance.randint(-reach, reach)))
        pattern = re.compile(number_pattern(low / scale, high / scale, step))
        for units in range(low - 20, high + 21):
            assert bool(pattern.fullmatch(_written(units, decimals))) == (low <= units <= high), (low, high, units)


@pytest.mark.parametrize(
    "text", ["-0", "00", "01", "1.0", "1.50", ".5", "5.", "+1", "1e3", "", " 1", "NaN", "0x1", "١"]
)
@pytest.mark.parametrize(
    "bounds", [(None, None, None), (-2.0, 20.0, None), (-2.0, 20.0, 1.0), (-2.0, 20.0, 0.5)], ids=str
)
def test_a_number_is_written_in_one_way(text: str, bounds: tuple[float | None, float | None, float | None]) -> None:
    assert not re.fullmatch(number_pattern(*bounds), text)


@given(st.integers(0, 3), st.integers(-2_000, 2_000), st.integers(0, 300), st.integers(1, 400))
def test_a_step_gives_the_minimum_and_every_step_from_there(decimals: int, low: int, width: int, step: int) -> None:
    """All in units of the last decimal."""
    scale = 10**decimals
    pattern = re.compile(number_pattern(low / scale, (low + width) / scale, step / scale))
    for units in range(low - 3, low + width + 4):
        wanted = 0 <= units - low <= width and (units - low) % step == 0
        assert bool(pattern.fullmatch(_written(units, decimals))) == wanted, units


def test_a_step_counts_from_the_minimum_as_label_studio_does() -> None:
    assert number_pattern(0.5, 3, 1) == "0[.]5|1[.]5|2[.]5"
    assert number_pattern(-0.5, 0.5, 0.25) == "-0[.]5|-0[.]25|0|0[.]25|0[.]5"
    assert number_pattern(None, 12, 5e8) == "-500000000|0"
    assert number_pattern(10, 10, 5) == "10"


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ((0.001, 0.002, None), "no number with 2 decimals"),
        ((None, None, 3.0), "more than 10,000 numbers"),
        ((0.0, 0.1, 0.00003), "more than 4 decimals"),
    ],
    ids=["between two hundredths", "every third number", "five decimals"],
)
def test_a_range_without_usable_numbers_is_refused(
    bounds: tuple[float | None, float | None, float | None], message: str
) -> None:
    with pytest.raises(UnsupportedConfig, match=message):
        number_pattern(*bounds)
