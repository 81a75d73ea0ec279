"""Confidences as they turn out to be: each field's own temperature, found on tasks that people labelled.

A temperature T takes a confidence p to the one whose log-odds are those of p divided by T: over 1 for a model that is
too sure of itself, under 1 for one that is too modest. Which of two answers of a field is surer never turns round, and
labels never change. Pure; nothing raises.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from label_config.answer import Answer, FieldAnswer

NEAREST = 5e-4
"""No confidence counts as nearer to 0 or 1: whether one in 2,000 is wrong or fewer, a few hundred labels cannot tell,
and the few that are wrong would decide what all others are rated as."""

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.25, 20.0
"""Below it a rated confidence lies so near to 1 that a float no longer tells what the model itself had said."""


def log_odds(confidence: float) -> float:
    within = min(max(confidence, NEAREST), 1 - NEAREST)
    return math.log(within / (1 - within))


def calibrated(confidence: float, temperature: float) -> float:
    """`temperature` > 0; 1 changes nothing."""
    if temperature == 1:
        return confidence
    return 1 / (1 + math.exp(-log_odds(confidence) / temperature))


def uncalibrated(confidence: float, temperature: float) -> float:
    """The model's own confidence, of one that `calibrated` made by `temperature`; within NEAREST of 0 and 1."""
    if temperature == 1:
        return confidence
    odds = math.log(confidence / (1 - confidence)) if 0 < confidence < 1 else math.copysign(math.inf, confidence - 0.5)
    farthest = log_odds(1.0)
    return 1 / (1 + math.exp(-min(max(odds * temperature, -farthest), farthest)))


def with_calibration(answer: Answer, temperatures: Mapping[str, float]) -> Answer:
    """`answer` with the confidences of the fields that have a temperature."""

    def rated(name: str, found: FieldAnswer) -> FieldAnswer:
        if name not in temperatures or found.confidence is None:
            return found
        return replace(found, confidence=calibrated(found.confidence, temperatures[name]))

    return replace(answer, fields={name: rated(name, found) for name, found in answer.fields.items()})
