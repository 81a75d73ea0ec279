"""How sure a field's confidence should sound: one temperature, fitted on labels of people who did not see the answer.

Maximum likelihood of "was it right" (C. Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599, for
the one confidence that is kept), drawn towards 1 by a normal prior on the logarithm of the temperature, so that few
labels change little. Below MIN_LABELS nothing is changed. What a temperature does is in `label_config.rating`.
Nothing raises.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from label_config.rating import MAX_TEMPERATURE, MIN_TEMPERATURE, log_odds

MIN_LABELS = 50
PRIOR_SD = 0.7
"""Of the logarithm: before anything is seen, two in three fields are thought to lie within a factor of two."""

Scored = Sequence[tuple[float, bool]]
"""Confidence, and whether the answer was right."""


def fitted_temperature(scored: Scored, in_force: float = 1.0) -> float:
    """Two decimals; the one `in_force` where there are too few labels to change anything."""
    if len(scored) < MIN_LABELS:
        return in_force
    from scipy.optimize import minimize_scalar  # here: it takes a second, which no other command should pay

    odds = np.array([log_odds(confidence) for confidence, _ in scored])
    signs = np.array([1.0 if is_right else -1.0 for _, is_right in scored])

    def loss(log_temperature: float) -> float:
        likelihood = -np.logaddexp(0.0, -signs * odds / math.exp(log_temperature)).sum()
        return float(-likelihood + (log_temperature / PRIOR_SD) ** 2 / 2)

    bounds = (math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE))
    return round(math.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x), 2)
