"""How numbers are written for people, in both languages alike. Nothing raises."""

from __future__ import annotations


class Number(str):
    """`f"{number:picture|pictures}"` is "1 picture", or "2,000 pictures"."""

    __slots__ = ()

    def __format__(self, counted: str) -> str:
        one, _, many = counted.partition("|")
        return f"{self!s} {one if self == '1' else many}" if counted else str(self)


def number(value: float, decimals: int = 0) -> Number:
    return Number(f"{value:,.{decimals}f}")


def percent(share: float, decimals: int = 1) -> str:
    """`12.3%`; a share that is not nothing never reads 0%, one that is not all never 100%."""
    if 0 < share < 0.0005:
        return "<0.1%"
    if 0.9995 <= share < 1:
        return ">99.9%"
    return f"{share:.{0 if share in (0, 1) else decimals}%}"


def roughly(num: int) -> Number:
    """An estimate from a few wrong answers, upwards: no more than its first two digits mean anything."""
    step = 10 ** max(0, len(str(num)) - 2)
    return number(-(-num // step) * step)


def seconds(value: float) -> str:
    """With so many digits that a ratio of two can be checked: "18.6", "5.3", "20"."""
    return f"{value:.1f}".removesuffix(".0") if value < 100 else f"{value:,.0f}"


def rounded(share: float) -> str:
    """Whole percents, but for shares that these would round to none or to all."""
    return percent(share, 1 if share < 0.01 or share > 0.99 else 0)


def exactly(share: float) -> str:
    """What was asked for is said as it was asked for: 2.5% is not 2%."""
    return f"{100 * share:.10g}%"


def plain(value: float) -> str:
    """With three digits that count, and no exponent: what people type into a form is neither tiny nor astronomic."""
    return number(value) if value >= 100 else f"{value:.3g}"
