"""Counting in one pass and bounded memory finds what a plain count of everything finds."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from backend.bulk.report.reasons import ReasonReader
from backend.bulk.report.rows import FailureRow, Row, read_rows
from backend.bulk.report.tally import MAX_FAILURES_KEPT, MAX_LABELS, MAX_LOWEST, MAX_REASONS, Counts, Tally
from tests.backend.bulk.report_rig import SCHEMA, lines, record

CHOICES: dict[str, tuple[tuple[Any, ...] | None, ...]] = {
    "season": ((), ("夏季",), ("夏季", "秋冬"), ("四季", "四季", "other"), None),
    "quality": ((), (1,), (5,), None),
    "price": ((), (0,), (129,), (12.5,), ("x",)),
    "caption": ((), ("",), ("短",), ("一件短袖T恤",)),
    "unknown": (None, ("x",)),
}
SHARES = (None, 0.0, 0.025, 0.05, 0.4999, 0.5, 0.9999, 1.0)  # few, so that many are the same
REASONS = (
    (),
    ("品类：置信度 22%，低于 50%", "品类：置信度 38%，低于 50%"),
    ("品类：置信度 38%，低于 50%", "图片描述：描述内容重复"),
    ("x 1", "x 2"),
)


def row_of(drawn: int) -> Row:
    """The digits of `drawn`, in mixed bases, choose each part. Far faster than a strategy for each."""

    def choose(options: Sequence[Any]) -> Any:
        nonlocal drawn
        drawn, index = divmod(drawn, len(options))
        return options[index]

    values = {name: value for name, options in CHOICES.items() if (value := choose(options)) is not None}
    names = ("season", "quality", "price", "unknown")
    confidence = {name: share for name in names if (share := choose(SHARES)) is not None}
    score, doubtful, reasons = choose(SHARES), choose((False, True)), choose(REASONS)
    return Row("a", values=values, confidence=confidence, score=score, needs_review=doubtful, reasons=reasons)


ROWS = st.lists(st.integers(0, 2**40).map(row_of), max_size=150)


def tally_of(rows: list[Row]) -> Tally:
    tally = Tally(SCHEMA)
    for row in rows:
        tally.add(row)
    return tally


@given(ROWS)
def test_labels_are_counted_once_a_picture(rows: list[Row]) -> None:
    tally = tally_of(rows)
    for name in ("category", "season", "quality"):
        given_values = [set(row.values.get(name, ())) for row in rows]
        assert tally.labels[name].labels.by_key == Counter(value for values in given_values for value in values)
        assert tally.labels[name].num_empty == sum(not values for values in given_values)
    assert set(tally.labels) == {"category", "season", "quality"}


@given(ROWS)
def test_confidences_lengths_and_numbers_are_counted(rows: list[Row]) -> None:
    tally = tally_of(rows)
    for name in ("category", "season", "quality", "price"):
        found = [row.confidence[name] for row in rows if name in row.confidence]
        counted = Counter(min(int(share * 10_000) // 500, 19) for share in found)
        assert [one.num for one in tally.confidence[name].bins()] == [counted[i] for i in range(20)]
    assert tally.scores.num == sum(row.score is not None for row in rows)
    lengths = Counter(filter(None, (len("".join(row.values.get("caption", ()))) for row in rows)))
    assert {one.low: one.num for one in tally.text_chars["caption"].bins(100) if one.num} == lengths
    prices = [price for row in rows for price in row.values.get("price", ()) if price != "x"]
    assert tally.numbers["price"].num == len(prices)


@given(ROWS)
def test_reasons_are_counted_by_what_they_have_in_common(rows: list[Row]) -> None:
    tally, read = tally_of(rows), ReasonReader(SCHEMA)
    assert tally.reasons.by_key == Counter(r for row in rows for r in {read(text).group for text in row.reasons})
    assert (tally.num_done, tally.num_review) == (len(rows), sum(row.needs_review for row in rows))
    assert len(tally.reasons.by_key) <= 3, "figures are told apart"


@given(ROWS)
def test_the_lowest_are_those_a_full_sort_finds(rows: list[Row]) -> None:
    def rank(numbered: tuple[int, Row]) -> tuple[bool, float, bool, int]:
        number, row = numbered
        return row.score is None, row.score or 0.0, not row.needs_review, number

    wanted = [row for _, row in sorted(enumerate(rows), key=rank)]
    assert tally_of(rows).lowest == wanted[:MAX_LOWEST]


@given(st.lists(st.sampled_from("abc"), max_size=400))
def test_failures_are_counted_by_reason_and_the_first_are_kept(reasons: list[str]) -> None:
    tally = Tally(SCHEMA)
    failures = [FailureRow(str(number), reason=reason) for number, reason in enumerate(reasons)]
    for failure in failures:
        tally.add_failure(failure)
    assert {reason: found.num for reason, found in tally.failures.items()} == Counter(reasons)
    for reason, found in tally.failures.items():
        assert found.first == [failure for failure in failures if failure.reason == reason][:MAX_FAILURES_KEPT]


def test_labels_and_reasons_without_end_are_counted_together() -> None:
    tally = Tally(SCHEMA)
    for number in range(MAX_LABELS + 500):
        tally.add(Row("a", values={"category": (f"label {number}",)}, reasons=("!" * (1 + number % 299),)))
        tally.add_failure(FailureRow("a", reason=f"reason {number}"))
    labels = tally.labels["category"].labels
    assert (len(labels.by_key), labels.num_beyond) == (MAX_LABELS, 500)
    assert len(tally.failures) == MAX_REASONS + 1
    assert sum(found.num for found in tally.failures.values()) == tally.num_failed == MAX_LABELS + 500


def test_counts_never_lose_one() -> None:
    counts: Counts[int] = Counts(3)
    for number in range(10):
        counts.add(number % 5)
    assert (sum(counts.by_key.values()), counts.num_beyond, len(counts.by_key)) == (6, 4, 3)


def test_memory_does_not_grow_with_the_number_of_records(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    made = (record(f"picture-{number}", 0.2 + number % 700 / 1000) for number in range(1_000))
    path.write_bytes(lines(path, made).read_bytes() * 3)
    tally = Tally(SCHEMA)
    tracemalloc.start()
    for row in read_rows(path):
        assert row is not None
        tally.add(row)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert tally.num_done == 3_000
    assert peak < 1_000_000, "3,000 records held would be more than 3 MB"
