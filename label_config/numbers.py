"""Number ranges as regular expressions, for the grammar of `<Number>` fields.

A number is written the one way that `json.dumps` writes it back: no exponent, no plus sign, no "-0", no leading and
no trailing zeros. Knows nothing of fields or grammars. Raises UnsupportedConfig if no number fits.

llguidance's own numbers (`%json {"type": "number", "multipleOf": ...}`, 1.9.1) are not used. They allow other spellings
of one number ("-0", "1.50", "10.0", exponents) and of a step of 0.25 not "1.5" but "1.50"; a step counts from 0 and
not from the minimum; and `%json` may not stand in a terminal, so nothing can be intersected with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from math import ceil, floor

from label_config.errors import UnsupportedConfig

MAX_NUMBER = 999_999_999
MAX_DECIMALS = 4  # json.dumps writes smaller fractions with an exponent
DEFAULT_DECIMALS = 2
MAX_LISTED_NUMBERS = 10_000


@dataclass(frozen=True, slots=True)
class Numbers:
    """start + k * size for each k of first..last, of which there is one at least."""

    start: Decimal
    size: Decimal
    first: int
    last: int

    @classmethod
    def of(cls, minimum: float | None, maximum: float | None, step: float | None) -> Numbers:
        """The numbers of [minimum, maximum] that Label Studio lets a person submit.

        With a step those are minimum (or 0) plus a multiple of it; without, here, all with two decimals. Takes no time
        that grows with their number. Raises UnsupportedConfig if there is none, or more than 10,000 of a step that no
        decimal place describes.
        """
        low = _decimal(minimum) if minimum is not None else Decimal(-MAX_NUMBER)
        high = _decimal(maximum) if maximum is not None else Decimal(MAX_NUMBER)
        size = Decimal(10) ** -DEFAULT_DECIMALS if step is None else _decimal(step)
        start = low if minimum is not None and step is not None else Decimal(0)
        if _is_power_of_ten(size) and _decimals(start) <= _decimals(size):
            decimals = min(_decimals(size), MAX_DECIMALS)
            first, last = ceil(low.scaleb(decimals)), floor(high.scaleb(decimals))
            if first > last:
                raise UnsupportedConfig(f"no number with {decimals} decimals lies between min={low} and max={high}")
            return cls(Decimal(0), Decimal(1).scaleb(-decimals), first, last)
        if max(_decimals(size), _decimals(start)) > MAX_DECIMALS:  # first: only with few can they be divided
            raise UnsupportedConfig(f"min={start} and step={size} have more than {MAX_DECIMALS} decimals")
        first, last = ceil((low - start) / size), floor((high - start) / size)
        if first > last:
            raise UnsupportedConfig(f"no multiple of step={size} lies between min={low} and max={high}")
        if last - first >= MAX_LISTED_NUMBERS:
            raise UnsupportedConfig(f"step={size} gives more than {MAX_LISTED_NUMBERS:,} numbers; narrow min and max")
        return cls(start, size, first, last)

    @property
    def smallest(self) -> float:
        """As an answer has it: an int where it is whole."""
        number = self.start + self.first * self.size
        return int(number) if number == int(number) else float(number)

    @property
    def num_listed(self) -> int:
        """How many of them the pattern spells out, one by one; 0 if it describes them by their digits."""
        is_range = not self.start and _is_power_of_ten(self.size)
        return 0 if is_range else self.last - self.first + 1

    def pattern(self) -> str:
        """A regular expression for their texts."""
        if self.num_listed:
            return "|".join(_literal(self.start + k * self.size) for k in range(self.first, self.last + 1))
        decimals, parts = _decimals(self.size), []
        if self.first < 0:
            parts.append(f"-({_positive(max(1, -self.last), -self.first, decimals)})")
        if self.last >= 0:
            parts.append(_positive(max(0, self.first), self.last, decimals))
        return "|".join(parts)


def _decimal(number: float) -> Decimal:
    return Decimal(str(number).removesuffix(".0"))


def _is_power_of_ten(size: Decimal) -> bool:
    return size.normalize().as_tuple().digits == (1,) and size <= 1


def _literal(number: Decimal) -> str:
    text = f"{number:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return ("0" if text in ("", "-0") else text).replace(".", "[.]")


def _decimals(number: Decimal) -> int:
    exponent = number.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _positive(first: int, last: int, decimals: int) -> str:
    """Numbers first..last, counted in units of 10**-decimals, 0 <= first <= last."""
    whole_first, part_first = divmod(first, 10**decimals)
    whole_last, part_last = divmod(last, 10**decimals)
    top = 10**decimals - 1
    if whole_first == whole_last:
        return f"{whole_first}{_fraction(part_first, part_last, decimals)}"
    parts = [f"{whole_first}{_fraction(part_first, top, decimals)}"]
    if whole_first + 1 < whole_last:
        parts.append(f"({_whole(whole_first + 1, whole_last - 1)}){_fraction(0, top, decimals)}")
    parts.append(f"{whole_last}{_fraction(0, part_last, decimals)}")
    return "|".join(parts)


def _whole(first: int, last: int) -> str:
    """Whole numbers first..last without leading zeros, one alternative (or a few) for each number of digits."""
    parts = []
    for length in range(len(str(first)), len(str(last)) + 1):
        low = max(first, 10 ** (length - 1) if length > 1 else 0)
        high = min(last, 10**length - 1)
        parts.append(_digits(str(low), str(high)))
    return "|".join(parts)


def _digits(low: str, high: str) -> str:
    """Strings of len(low) digits between `low` and `high`."""
    rest = len(low) - 1
    if set(low) <= {"0"} and set(high) <= {"9"}:
        return f"[0-9]{{{len(low)}}}" if low else ""
    if low[0] == high[0]:
        return low[0] + _grouped(_digits(low[1:], high[1:]))
    parts = []
    first, last = int(low[0]), int(high[0])
    if set(low[1:]) - {"0"}:
        parts.append(low[0] + _grouped(_digits(low[1:], "9" * rest)))
        first += 1
    if set(high[1:]) - {"9"}:
        parts.append(high[0] + _grouped(_digits("0" * rest, high[1:])))
        last -= 1
    if first <= last:
        parts.append(f"[{first}-{last}]" + (f"[0-9]{{{rest}}}" if rest else ""))
    return "|".join(parts)


def _fraction(first: int, last: int, decimals: int) -> str:
    """What follows the whole part for first..last units: nothing for 0, else a point and digits, the last not 0."""
    if decimals == 0:
        return ""
    digits = _significant(f"{first:0{decimals}d}", f"{last:0{decimals}d}")
    if not digits:
        return ""
    return f"([.]({digits})){'?' if first == 0 else ''}"


def _significant(low: str, high: str) -> str:
    """Digit strings that, filled with zeros on the right, lie between `low` and `high`; none ends in 0."""
    if not low.strip("0") and not high.strip("9"):
        return f"[0-9]{{0,{len(low) - 1}}}[1-9]" if low else ""
    rest, first, last = len(low) - 1, int(low[0]), int(high[0])
    if first == last:
        return _led_by(first, first, low[1:], high[1:])
    zeros, nines = "0" * rest, "9" * rest
    parts = []
    if low[1:] != zeros:
        parts.append(_led_by(first, first, low[1:], nines))
        first += 1
    if high[1:] != nines:
        parts.append(_led_by(last, last, zeros, high[1:]))
        last -= 1
    if first == 0:
        parts.append(_led_by(0, 0, zeros, nines))
        first = 1
    if first <= last:
        parts.append(_led_by(first, last, zeros, nines))
    return "|".join(filter(None, parts))


def _led_by(first: int, last: int, low: str, high: str) -> str:
    """A digit of first..last (0 alone, if it is among them), and what may follow: digits between `low` and `high`, or
    nothing where that stands for zeros that are."""
    lead = str(first) if first == last else f"[{first}-{last}]"
    ends = first > 0 and not low.strip("0")
    more = _significant(low, high)
    if not more:
        return lead if ends else ""
    return f"{lead}({more}){'?' if ends else ''}"


def _grouped(pattern: str) -> str:
    return f"({pattern})" if "|" in pattern else pattern
