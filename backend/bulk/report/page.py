"""A run's `Tally` and `Summary` -> one HTML page that needs nothing else and runs nothing.

What the page looks like is in `backend/pages/templates`; the policy in it allows its own style and pictures that are in
it, and no script, form or address at all. Here is what it is given: every text from outside (file names, descriptions,
labels, messages) on one line of what a person can see, and no more of anything than a page can hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backend.bulk.left_out import MAX_SHOWN
from backend.bulk.report.cards import Bar, confidence_chart, field_card
from backend.bulk.report.pictures import Thumbnails, picture
from backend.bulk.report.tally import FailureTally, Tally
from backend.bulk.report.words import ReportWords
from backend.bulk.summary import Summary
from backend.pages import html
from backend.pages.numbers import number
from backend.pages.outside import shown, shown_source
from backend.pages.words import Language
from label_config.schema import LabelSchema

MAX_FILES = 100
"""Of all reasons for a failure together, shared out evenly, but for `_LEAST_FILES` of each."""
_LEAST_FILES = 3
_MAX_OPEN_FILES = 20
_MAX_FAILURE_REASONS = 40
_MAX_REASONS = 20
_MAX_SOURCES = 3
_REASON_CHARS = 160
_FAILURE_CHARS = 120
_FILE_CHARS = 160
_MESSAGE_CHARS = 200
_EXAMPLE_CHARS = 160
_VERSION_CHARS = 160
_PATH_CHARS = 200


def render(tally: Tally, summary: Summary, schema: LabelSchema, language: Language, thumbnails: Thumbnails) -> str:
    words = ReportWords(language, {field.name: field.title or field.name for field in schema.fields})
    failures, num_other_failures = _failures(tally, words)
    page = html.render(
        "report.html",
        style=html.style("report.css"),
        words=words,
        tally=tally,
        summary=summary,
        model=_model(tally, summary),
        notes=_notes(tally, summary, words),
        shares=_shares(tally, summary, words),
        score=confidence_chart(tally.scores, words),
        reasons=_reasons(tally, words),
        cards=[field_card(field, tally, words) for field in schema.answer_order],
        pictures=[picture(row, schema, thumbnails, words) for row in tally.lowest],
        failures=failures,
        num_other_failures=num_other_failures,
        sources=_sources(summary, words),
        output=shown_source(summary.output, _PATH_CHARS),
    )
    return page + "\n"


def _model(tally: Tally, summary: Summary) -> str:
    """Of the records, which a run with nothing left to do did not write itself."""
    versions = [version for version in sorted(tally.versions.by_key) if version] or [summary.model_version]
    return shown(", ".join(versions), _VERSION_CHARS)


def _notes(tally: Tally, summary: Summary, words: ReportWords) -> list[str]:
    """What is wrong with the run as a whole."""
    told: list[str] = []
    if summary.state != "finished" and summary.num_left != 0:
        left = summary.num_left
        told.append(words(summary.state, num=number(left)) if left else words(f"{summary.state}_unknown"))
    for group in summary.left_out:
        said = words("left_out", num=number(group.num), why=words.reason(group.reason), what=words.remedy(group.reason))
        examples = words.listed([shown_source(example, _EXAMPLE_CHARS) for example in group.examples[:MAX_SHOWN]])
        told.append(f"{said} {examples}")
    if tally.num_withheld:
        told.append(words("withheld_note", num=number(tally.num_withheld)))
    if tally.num_unreadable:
        told.append(words("unreadable", num=number(tally.num_unreadable)))
    return told


def _shares(tally: Tally, summary: Summary, words: ReportWords) -> list[tuple[str, int, str]]:
    """(kind, number, name) of what became of all pictures."""
    parts = [
        ("unflagged", tally.num_done - tally.num_review, words("unflagged")),
        ("doubt", tally.num_review, words("num_review")),
        ("bad", tally.num_failed, words("num_failed")),
    ]
    if tally.num_withheld:
        parts.append(("withheld", tally.num_withheld, words("num_withheld")))
    return [*parts, ("left", summary.num_left, words("not_reached"))] if summary.num_left else parts


def _reasons(tally: Tally, words: ReportWords) -> list[Bar]:
    """Why pictures need review, the most frequent first."""
    ranked = sorted(
        ((shown(words.review_reason(reason, group=True), _REASON_CHARS), num)
         for reason, num in tally.reasons.by_key.items()),
        key=lambda item: (-item[1], item[0]),
    )  # fmt: skip
    rest = sum(num for _, num in ranked[_MAX_REASONS:]) + tally.reasons.num_beyond
    bars = [Bar(name, num, num / max(1, tally.num_review)) for name, num in ranked[:_MAX_REASONS]]
    if rest:
        bars.append(Bar(words("other_reasons"), rest, rest / max(1, tally.num_review), "rest"))
    return bars


@dataclass(frozen=True, slots=True)
class Failures:
    """Those of one reason, with what to do about it; `files` are the first of them, with their messages."""

    reason: str
    remedy: str
    num: int
    files: Sequence[tuple[str, str]]
    is_open: bool


def _failures(tally: Tally, words: ReportWords) -> tuple[list[Failures], int]:
    """By reason, the most frequent first; and how many have a reason that is not listed."""
    ranked = sorted(tally.failures.items(), key=lambda item: (-item[1].num, item[0]))
    listed = ranked[:_MAX_FAILURE_REASONS]
    files_each = max(_LEAST_FILES, MAX_FILES // max(1, len(listed)))
    few = sum(min(found.num, files_each) for _, found in ranked) <= _MAX_OPEN_FILES
    failures = [
        Failures(
            shown_source(words.reason(reason) if reason else words("other_reasons"), _FAILURE_CHARS),
            words.remedy(reason),
            found.num,
            _files(found, files_each),
            few,
        )
        for reason, found in listed
    ]
    return failures, sum(found.num for _, found in ranked[len(listed) :])


def _files(found: FailureTally, max_files: int) -> list[tuple[str, str]]:
    return [
        (shown_source(one.image or one.image_id, _FILE_CHARS), shown_source(one.message, _MESSAGE_CHARS))
        for one in found.first[:max_files]
    ]


def _sources(summary: Summary, words: ReportWords) -> str:
    sources = [shown_source(source, _PATH_CHARS) for source in summary.sources[:_MAX_SOURCES]]
    if len(summary.sources) > _MAX_SOURCES:
        sources.append(words("more_sources", num=number(len(summary.sources))))
    return ", ".join(sources)
