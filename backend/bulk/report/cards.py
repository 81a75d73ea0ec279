"""One card a field: how often each of its labels was given, and how sure the model was; for a text, how long it is.

Plain values for the template, every text from outside as it is to be shown. Nothing raises.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from backend.bulk.report.numbers import Bin, NumberTally
from backend.bulk.report.rows import Value
from backend.bulk.report.tally import LabelTally, ShareTally, Tally
from backend.bulk.report.words import ReportWords, plain
from backend.pages.numbers import number, percent
from backend.pages.outside import shown
from backend.predict.record import PATH_SEPARATOR
from label_config.schema import ChoicesField, Field, NumberField, RatingField, TaxonomyField, TextField

MAX_BARS = 30
MAX_NUMBER_BINS = 24
_HIGH = 0.9
_LABEL_CHARS = 120


@dataclass(frozen=True, slots=True)
class Bar:
    """`share` (0..1) is told beside it. `above` stands before the name, in a softer colour. `kind` is a class: "" a
    label, "rest" what is none."""

    name: str
    num: int
    share: float
    kind: str = ""
    above: str = ""


@dataclass(frozen=True, slots=True)
class Histogram:
    """`columns`: what each means in words, and its number. `ends` stand below the axis; `told` is the whole in words,
    for those who cannot see it; `mean` stands above it."""

    columns: Sequence[tuple[str, int]]
    ends: Sequence[str]
    told: str
    mean: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """`bars` or a `histogram`; neither where nothing was given. `lengths` of a text, which has no confidence."""

    title: str
    name: str
    is_text: bool
    facts: str = ""
    bars: Sequence[Bar] = ()
    histogram: Histogram | None = None
    lengths: Sequence[tuple[str, str]] = ()
    confidence: Histogram | None = None


def field_card(field: Field, tally: Tally, words: ReportWords) -> Card:
    title = field.title or field.name
    name = shown(field.name, _LABEL_CHARS) if field.name != title else ""
    head = (shown(title, _LABEL_CHARS), name, isinstance(field, TextField))
    if isinstance(field, TextField):
        chars = tally.text_chars[field.name]
        if not chars.num:
            return Card(*head)
        lengths = _lengths(chars, tally.num_done, words)
        told = ", ".join(f"{name} {length}" for name, length in lengths)
        return Card(*head, words("characters"), histogram=_numbers(chars, told, words), lengths=lengths)
    confidence = confidence_chart(tally.confidence[field.name], words)
    if isinstance(field, NumberField):
        numbers = tally.numbers[field.name]
        facts = _number_facts(numbers, tally.num_done, words)
        chart = _numbers(numbers, facts, words) if numbers.num else None
        return Card(*head, facts, histogram=chart, confidence=confidence)
    labels = tally.labels[field.name]
    bars = _label_bars(field, labels, tally.num_done, words)
    facts = words("num_labels", num=number(len(labels.labels.by_key)))
    if sum(bar.num for bar in bars) > tally.num_done:
        facts += f" · {words('multiple')}"
    return Card(*head, facts, bars, confidence=confidence)


def confidence_chart(shares: ShareTally, words: ReportWords) -> Histogram | None:
    """None where no picture has a confidence."""
    if not shares.num:
        return None
    high = sum(one.num for one in shares.bins() if one.low >= _HIGH) / shares.num
    mean = f"{words('mean', share=percent(shares.mean))} · {words('high', high=f'{_HIGH:.0%}', share=percent(high))}"
    columns = _columns(shares.bins(), lambda one: f"{one.low:.0%}–{one.high:.0%}", words)
    return Histogram(columns, ("0%", "50%", "100%"), f"{words('confidence')}: {mean}", mean)


def _label_bars(field: Field, tally: LabelTally, num_done: int, words: ReportWords) -> list[Bar]:
    """The most frequent first, those of a rating by their stars; the rest in one bar."""

    def bar(name: str, num: int, kind: str = "", above: str = "") -> Bar:
        return Bar(name, num, num / num_done if num_done else 0.0, kind, above)

    ranked = _ranked(field, tally)
    kept = ranked if len(ranked) <= MAX_BARS and not tally.labels.num_beyond else ranked[: MAX_BARS - 1]
    bars = []
    for label, num in kept:
        above, name = _label_name(field, label, words)
        bars.append(bar(name, num, above=above))
    num_others = len(ranked) - len(kept)
    if num_others or tally.labels.num_beyond:
        others = sum(num for _, num in ranked[len(kept) :]) + tally.labels.num_beyond
        more = "+" if tally.labels.num_beyond else ""
        bars.append(bar(words("others", num=number(num_others) + more), others, "rest"))
    if tally.num_empty:
        bars.append(bar(words("left_empty"), tally.num_empty, "rest"))
    return bars


def _ranked(field: Field, tally: LabelTally) -> list[tuple[Value, int]]:
    """With those that were never given, where they are few."""
    counts: dict[Value, int] = dict(tally.labels.by_key)
    if isinstance(field, ChoicesField) and len(field.choices) <= MAX_BARS:
        counts = {**{choice.value: 0 for choice in field.choices}, **counts}
    if isinstance(field, RatingField):
        counts = {**dict.fromkeys(range(1, min(field.max_rating, MAX_BARS) + 1), 0), **counts}
    ranked = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    if isinstance(field, RatingField):
        ranked.sort(key=lambda item: (isinstance(item[0], str), item[0] if not isinstance(item[0], str) else 0))
    return ranked


def _label_name(field: Field, label: Value, words: ReportWords) -> tuple[str, str]:
    """The end of a path is what differs: what is above it stands apart."""
    if isinstance(field, RatingField) and isinstance(label, int):
        return "", words("stars", num=number(label))
    name = shown(str(label), _LABEL_CHARS)
    if not isinstance(field, TaxonomyField):
        return "", name
    above, separator, end = name.rpartition(PATH_SEPARATOR)
    return above + separator, end


def _number_facts(tally: NumberTally, num_done: int, words: ReportWords) -> str:
    if not tally.num:
        return ""
    ends = {"low": plain(tally.smallest, 4), "high": plain(tally.largest, 4)}
    facts = words("number_facts", mean=plain(tally.mean), **ends)
    return facts if tally.num == num_done else f"{facts} · {words('left_empty')} {number(num_done - tally.num)}"


def _lengths(tally: NumberTally, num_done: int, words: ReportWords) -> list[tuple[str, str]]:
    lengths = [
        (words("average"), plain(tally.mean, 0)),
        (words("shortest"), plain(tally.smallest)),
        (words("longest"), plain(tally.largest)),
    ]
    if tally.num < num_done:
        lengths.append((words("left_empty"), number(num_done - tally.num)))
    return lengths


def _numbers(tally: NumberTally, told: str, words: ReportWords) -> Histogram:
    def last(one: Bin) -> str:
        return plain(one.high - 1 if tally.are_whole else one.high, 4)

    def name(one: Bin) -> str:
        low = plain(one.low, 4)
        return low if low == last(one) else f"{low}–{last(one)}"

    bins = tally.bins(MAX_NUMBER_BINS)
    ends = tuple(dict.fromkeys((plain(bins[0].low, 4), last(bins[-1]))))
    return Histogram(_columns(bins, name, words), ends, told)


def _columns(bins: Sequence[Bin], name: Callable[[Bin], str], words: ReportWords) -> list[tuple[str, int]]:
    return [(f"{name(one)}: {words('pictures', num=number(one.num))}", one.num) for one in bins]
