"""How much time the pre-filled form saves: lead times with and without it. Nothing raises.

Medians, because a person who goes for lunch leaves a form open; the interval of their ratio by resampling (percentile
bootstrap), because nothing is known of how lead times are spread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.quality.intervals import LEVEL

NUM_RESAMPLES = 2_000
MIN_EACH = 5
_SEED = 20_251_130


@dataclass(frozen=True, slots=True)
class TimeSaved:
    """Median seconds a task without (`blind_s`) and with the answer in the form (`filled_s`); `factor` is their ratio.

    `low`..`high` holds the true factor in LEVEL of all samples; None where there are fewer than MIN_EACH of a kind.
    """

    num_blind: int
    num_filled: int
    blind_s: float
    filled_s: float
    factor: float
    low: float | None
    high: float | None


def time_saved(blind_s: Sequence[float], filled_s: Sequence[float]) -> TimeSaved | None:
    """None where there is nothing to compare."""
    if not blind_s or not filled_s:
        return None
    blind, filled = float(np.median(blind_s)), float(np.median(filled_s))
    low = high = None
    if min(len(blind_s), len(filled_s)) >= MIN_EACH:
        chance = np.random.default_rng(_SEED)
        ratios = _resampled_medians(chance, blind_s) / _resampled_medians(chance, filled_s)
        low, high = (float(q) for q in np.quantile(ratios, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    return TimeSaved(len(blind_s), len(filled_s), blind, filled, blind / filled, low, high)


def _resampled_medians(chance: np.random.Generator, seconds: Sequence[float]) -> NDArray[np.float64]:
    """The medians of NUM_RESAMPLES samples with replacement, which need not be drawn: a sample takes the values at
    uniform places, and of those in order the middle one is Beta distributed, and so is the step to the next."""
    values = np.sort(np.asarray(seconds, dtype=np.float64))
    num = len(values)
    middle = (num + 1) // 2
    low = high = chance.beta(middle, num + 1 - middle, NUM_RESAMPLES)
    if num % 2 == 0:
        high = low + (1 - low) * chance.beta(1, num - middle, NUM_RESAMPLES)
    places = [np.minimum((place * num).astype(np.int64), num - 1) for place in (low, high)]
    medians: NDArray[np.float64] = (values[places[0]] + values[places[1]]) / 2
    return medians
