"""How sure a share is that was counted on a sample: exact binomial (Clopper-Pearson) intervals.

Exact, so at least as wide as they say for any sample size. C. J. Clopper and E. S. Pearson, "The use of confidence or
fiducial limits illustrated in the case of the binomial", Biometrika 26 (1934). The quantiles are scipy's.
"""

from __future__ import annotations

from dataclasses import dataclass

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Share:
    """`num_right` of `num`; the true share lies in `low`..`high` in LEVEL of all samples. Of none it lies anywhere."""

    num_right: int
    num: int
    low: float
    high: float

    @property
    def share(self) -> float | None:
        return self.num_right / self.num if self.num else None


def share_of(num_right: int, num: int) -> Share:
    """The share, with both sides of its interval at LEVEL."""
    tail = (1 - LEVEL) / 2
    return Share(num_right, num, 1 - upper_bound(num - num_right, num, tail), upper_bound(num_right, num, tail))


def upper_bound(num_wrong: int, num: int, delta: float) -> float:
    """The true share of wrong ones is at most this, but for a chance of `delta`. 1.0 where nothing was counted."""
    from scipy.special import betaincinv  # here: it takes a second, which no other command should pay

    return 1.0 if num_wrong >= num else float(betaincinv(num_wrong + 1, num - num_wrong, 1 - delta))
