"""What a temperature does to confidences."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from label_config.answer import Answer, FieldAnswer
from label_config.rating import MAX_TEMPERATURE, MIN_TEMPERATURE, NEAREST, calibrated, uncalibrated, with_calibration

shares = st.floats(0, 1)
temperatures = st.floats(MIN_TEMPERATURE, MAX_TEMPERATURE)


@given(shares, temperatures)
def test_it_stays_a_confidence(confidence: float, temperature: float) -> None:
    assert 0 <= calibrated(confidence, temperature) <= 1


@given(shares, shares, temperatures)
def test_which_of_two_is_surer_never_turns_round(one: float, other: float, temperature: float) -> None:
    low, high = sorted((one, other))
    assert calibrated(low, temperature) <= calibrated(high, temperature)


@pytest.mark.parametrize(
    ("confidence", "temperature", "found"),
    [(0.9, 1.0, 0.9), (0.9, 2.0, 0.75), (0.75, 0.5, 0.9), (0.5, 7.0, 0.5), (1.0, 1.0, 1.0), (0.0, 1.0, 0.0)],
)
def test_log_odds_are_divided(confidence: float, temperature: float, found: float) -> None:
    assert calibrated(confidence, temperature) == pytest.approx(found)


@given(st.floats(NEAREST, 1 - NEAREST), temperatures)
def test_what_the_model_said_itself_is_found_again(confidence: float, temperature: float) -> None:
    assert uncalibrated(calibrated(confidence, temperature), temperature) == pytest.approx(confidence, abs=1e-6)


@pytest.mark.parametrize("temperature", [MIN_TEMPERATURE, 0.5, 2.0, MAX_TEMPERATURE])
def test_confidences_of_none_and_all_stay_within_the_nearest(temperature: float) -> None:
    for confidence in (0.0, 1.0):
        own = uncalibrated(calibrated(confidence, temperature), temperature)
        assert own == pytest.approx(abs(confidence - NEAREST), abs=1e-6)
        assert uncalibrated(confidence, temperature) == pytest.approx(abs(confidence - NEAREST))


def test_a_rounded_confidence_is_rated_as_the_whole_one() -> None:
    """Records have four decimals; what is found on them holds for the model's own."""
    assert calibrated(1.0, 3.0) == pytest.approx(calibrated(0.9996, 3.0))
    assert calibrated(0.9871, 3.0) == pytest.approx(calibrated(0.98712, 3.0), abs=1e-4)


def test_values_texts_and_other_fields_stay() -> None:
    answer = Answer(
        {"a": FieldAnswer(("x",), 0.9), "b": FieldAnswer(("y",), 0.8), "c": FieldAnswer("text")}, truncated=True
    )

    rated = with_calibration(answer, {"a": 2.0, "c": 2.0, "gone": 2.0})

    assert rated.fields["a"] == FieldAnswer(("x",), pytest.approx(0.75))
    assert (rated.fields["b"], rated.fields["c"], rated.truncated) == (answer.fields["b"], answer.fields["c"], True)
