"""A histogram of any numbers in a bounded amount of memory, exact at the borders it shows.

Numbers are counted in bins of 10**k; where there come to be too many, ten bins become one. What is shown has bins of
1, 2 or 5 times a power of ten, no narrower than that, so no number ever has to be split. Nothing raises.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

MAX_KEPT_BINS = 2_000
MAX_NUMBER = 10**15
"""A larger number is not counted: no control asks for one."""
_FIRST_EXPONENT = -4
_STEPS = (1, 2, 5)


@dataclass(frozen=True, slots=True)
class Bin:
    """`num` numbers n with `low` <= n < `high`; of the last bin of shares, `high` too."""

    low: float
    high: float
    num: int


class NumberTally:
    """`add` numbers, then ask for `bins`. `smallest`, `largest` and `mean` are exact (but for a float's rounding)."""

    def __init__(self, max_kept_bins: int = MAX_KEPT_BINS) -> None:
        self._max_kept_bins = max_kept_bins
        self._exponent = _FIRST_EXPONENT
        self._counts: Counter[int] = Counter()
        self._sum = 0.0
        self.num = 0
        self.are_whole = True
        self.smallest = 0.0
        self.largest = 0.0

    @property
    def mean(self) -> float:
        return self._sum / self.num if self.num else 0.0

    def add(self, number: float) -> None:
        if not -MAX_NUMBER <= number <= MAX_NUMBER:  # NaN is not either
            return
        self.smallest = min(self.smallest, number) if self.num else number
        self.largest = max(self.largest, number) if self.num else number
        self.num += 1
        self._sum += number
        self.are_whole = self.are_whole and number == int(number)
        self._counts[_bin_of(number, self._exponent)] += 1
        while len(self._counts) > self._max_kept_bins:
            self._exponent += 1
            self._counts = _merged(self._counts, 10)

    def bins(self, max_bins: int) -> list[Bin]:
        """At most `max_bins` bins of one width, from the smallest number's to the largest's, empty ones too."""
        if not self._counts:
            return []
        factor, counts = self._fewest_that_fit(max_bins)
        width = Decimal(factor).scaleb(self._exponent)
        return [
            Bin(float(number * width), float((number + 1) * width), counts[number])
            for number in range(min(counts), max(counts) + 1)
        ]

    def _fewest_that_fit(self, max_bins: int) -> tuple[int, Counter[int]]:
        """How many kept bins make one that is shown, and the counts of those."""
        power = 10**-self._exponent if self.are_whole and self._exponent < 0 else 1
        while True:
            for step in _STEPS:
                first, last = min(self._counts) // (step * power), max(self._counts) // (step * power)
                if last - first < max(2, max_bins):  # 2: a bin border may lie between two numbers at every width
                    return step * power, _merged(self._counts, step * power)
            power *= 10


def _bin_of(number: float, exponent: int) -> int:
    """Through the decimal text, because 0.29 * 100 is 28.999999999999996."""
    return int(Decimal(str(number)).scaleb(-exponent).to_integral_value(ROUND_FLOOR))


def _merged(counts: Counter[int], factor: int) -> Counter[int]:
    merged: Counter[int] = Counter()
    for number, num in counts.items():
        merged[number // factor] += num
    return merged
