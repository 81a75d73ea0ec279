"""One card a field: how often each of its labels was given, and how sure the model was; for a text, how long it is."""

from __future__ import annotations

from collections.abc import Sequence

from backend.bulk.report.charts import Bar, bars, histogram
from backend.bulk.report.numbers import Bin, NumberTally
from backend.bulk.report.rows import Value
from backend.bulk.report.tally import LabelTally, ShareTally, Tally
from backend.bulk.report.texts import ReportWords, percent, plain
from backend.bulk.report.visible import shown
from backend.pages.markup import Markup, join, tag
from backend.pages.words import number
from backend.predict.record import PATH_SEPARATOR
from label_config.schema import ChoicesField, Field, NumberField, RatingField, TaxonomyField, TextField

MAX_BARS = 30
MAX_NUMBER_BINS = 24
_HIGH = 0.9
_LABEL_CHARS = 120


def field_card(field: Field, tally: Tally, words: ReportWords) -> Markup:
    title = field.title or field.name
    named = [tag("small", field.name)] if field.name != title else []
    if isinstance(field, TextField):
        return _card(title, named, *_text(tally.text_chars[field.name], tally.num_done, words))
    confidence = tally.confidence[field.name]
    if isinstance(field, NumberField):
        facts, chart = _numbers(tally.numbers[field.name], tally.num_done, words)
    else:
        facts, chart = _labels(field, tally.labels[field.name], tally.num_done, words)
    right = tag("div", tag("h4", words("confidence")), confidence_chart(confidence, words))
    return _card(title, named, facts, tag("div", tag("div", chart), right, class_="sides"))


def confidence_chart(shares: ShareTally, words: ReportWords) -> Markup:
    """With its mean above it; a sentence where no picture has a confidence."""
    if not shares.num:
        return tag("p", words("no_confidence"), class_="soft")
    high = sum(one.num for one in shares.bins() if one.low >= _HIGH) / shares.num
    mean = f"{words('mean', share=percent(shares.mean))} · {words('high', high=f'{_HIGH:.0%}', share=percent(high))}"
    told = f"{words('confidence')}: {mean}"
    chart = histogram(shares.bins(), lambda one: _share_bin(one, words), ("0%", "50%", "100%"), told)
    return tag("div", tag("p", mean, class_="soft"), chart)


def _card(title: str, named: Sequence[Markup], facts: str, *shown_below: Markup) -> Markup:
    head = tag("div", tag("h3", shown(title, _LABEL_CHARS), *named), tag("span", facts, class_="soft"), class_="row")
    return tag("section", head, *shown_below, class_="card")


def _labels(field: Field, tally: LabelTally, num_done: int, words: ReportWords) -> tuple[str, Markup]:
    counts: dict[Value, int] = dict(tally.labels.by_key)
    num_given = len(counts)
    if isinstance(field, ChoicesField) and len(field.choices) <= MAX_BARS:
        counts = {**{choice.value: 0 for choice in field.choices}, **counts}
    if isinstance(field, RatingField):
        counts = {**dict.fromkeys(range(1, min(field.max_rating, MAX_BARS) + 1), 0), **counts}
    ranked = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    if isinstance(field, RatingField):
        ranked.sort(key=lambda item: (isinstance(item[0], str), item[0] if not isinstance(item[0], str) else 0))
    kept = ranked if len(ranked) <= MAX_BARS and not tally.labels.num_beyond else ranked[: MAX_BARS - 1]

    def bar(name: str, num: int, kind: str = "") -> Bar:
        return Bar(name, num, num / num_done if num_done else 0.0, kind)

    def name_of(label: object) -> str:
        if isinstance(field, RatingField) and isinstance(label, int):
            return words.counted("stars", label)
        name = shown(str(label), _LABEL_CHARS)
        return _path(name) if isinstance(field, TaxonomyField) else name

    rows = [bar(name_of(label), num) for label, num in kept]
    num_others = len(ranked) - len(kept)
    if num_others or tally.labels.num_beyond:
        others = sum(num for _, num in ranked[len(kept) :]) + tally.labels.num_beyond
        more = "+" if tally.labels.num_beyond else ""
        rows.append(bar(words("others", num=number(num_others) + more), others, "rest"))
    if tally.num_empty:
        rows.append(bar(words("left_empty"), tally.num_empty, "rest"))
    facts = [words.counted("num_labels", num_given)]
    if sum(row.num for row in rows) > num_done:
        facts.append(words("multiple"))
    return " · ".join(facts), bars(rows, (words("label"), words("count"), words("share")))


def _path(name: str) -> Markup:
    """The end of a path is what differs: what is above it stands back."""
    above, separator, end = name.rpartition(PATH_SEPARATOR)
    return join(tag("span", above + separator, class_="above"), end)


def _numbers(tally: NumberTally, num_done: int, words: ReportWords) -> tuple[str, Markup]:
    if not tally.num:
        return "", tag("p", words("left_empty"), class_="soft")
    ends = {"low": plain(tally.smallest, 4), "high": plain(tally.largest, 4)}
    facts = [words("number_facts", mean=plain(tally.mean), **ends)]
    if tally.num < num_done:
        facts.append(f"{words('left_empty')} {number(num_done - tally.num)}")
    told = " · ".join(facts)
    return told, _number_chart(tally, told, words)


def _text(tally: NumberTally, num_done: int, words: ReportWords) -> tuple[str, Markup]:
    if not tally.num:
        return "", tag("p", words("left_empty"), class_="soft")
    lengths = {"average": plain(tally.mean, 0), "shortest": plain(tally.smallest), "longest": plain(tally.largest)}
    if tally.num < num_done:
        lengths["left_empty"] = number(num_done - tally.num)
    facts = [tag("div", tag("dt", words(key)), tag("dd", length)) for key, length in lengths.items()]
    told = ", ".join(f"{words(key)} {length}" for key, length in lengths.items())
    chart = tag("div", _number_chart(tally, told, words))
    return words("characters"), tag("div", chart, tag("div", tag("dl", *facts, class_="facts")), class_="sides")


def _number_chart(tally: NumberTally, told: str, words: ReportWords) -> Markup:
    bins = tally.bins(MAX_NUMBER_BINS)
    ends = tuple(dict.fromkeys((plain(bins[0].low, 4), plain(_last(bins[-1], tally.are_whole), 4))))
    return histogram(bins, lambda one: f"{_range(one, tally.are_whole)}: {_pictures(one, words)}", ends, told)


def _share_bin(one: Bin, words: ReportWords) -> str:
    return f"{one.low:.0%}–{one.high:.0%}: {_pictures(one, words)}"


def _range(one: Bin, are_whole: bool) -> str:
    low, last = plain(one.low, 4), plain(_last(one, are_whole), 4)
    return low if low == last else f"{low}–{last}"


def _last(one: Bin, are_whole: bool) -> float:
    return one.high - 1 if are_whole else one.high


def _pictures(one: Bin, words: ReportWords) -> str:
    return words.counted("pictures", one.num)
