"""What failed, by reason, with the first files of each."""

from __future__ import annotations

from backend.bulk.report.rows import FailureRow
from backend.bulk.report.tally import FailureTally, Tally
from backend.bulk.report.texts import ReportWords
from backend.bulk.report.visible import shown_source
from backend.pages.markup import Markup, tag
from backend.pages.words import number

MAX_FILES = 100
"""Of all reasons together, shared out evenly, but for `_LEAST_FILES` of each."""
_LEAST_FILES = 3
_MAX_REASONS = 40
_MAX_OPEN_FILES = 20
_FILE_CHARS = 160
_MESSAGE_CHARS = 200
_REASON_CHARS = 120


def failure_list(tally: Tally, words: ReportWords) -> Markup:
    if not tally.failures:
        return tag("section", tag("p", words("no_failures"), class_="soft"), class_="card")
    ranked = sorted(tally.failures.items(), key=lambda item: (-item[1].num, item[0]))
    files_each = max(_LEAST_FILES, MAX_FILES // min(len(ranked), _MAX_REASONS))
    few = sum(min(found.num, files_each) for _, found in ranked) <= _MAX_OPEN_FILES
    parts = [
        _reason(words.reason(reason) if reason else words("other_reasons"), found, files_each, words, opened=few)
        for reason, found in ranked[:_MAX_REASONS]
    ]
    if len(ranked) > _MAX_REASONS:
        rest = sum(found.num for _, found in ranked[_MAX_REASONS:])
        parts.append(tag("p", words("other_reasons"), " ", tag("b", number(rest))))
    return tag("section", *parts, class_="card failures")


def _reason(name: str, found: FailureTally, num_files: int, words: ReportWords, *, opened: bool) -> Markup:
    summary = tag("summary", tag("b", number(found.num), class_="count"), shown_source(name, _REASON_CHARS))
    rows = [_file(failure) for failure in found.first[:num_files]]
    head = tag("tr", tag("th", words("file"), scope="col"), tag("th", words("message"), scope="col"))
    files = tag("table", tag("thead", head, class_="unseen"), tag("tbody", *rows))
    left = found.num - len(rows)
    more = [tag("p", words("more_failures", num=number(left)), class_="soft")] if left else []
    return tag("details", summary, files, *more, open=opened)


def _file(failure: FailureRow) -> Markup:
    source = shown_source(failure.image or failure.image_id, _FILE_CHARS)
    message = shown_source(failure.message, _MESSAGE_CHARS)
    return tag("tr", tag("td", source, class_="file"), tag("td", message, class_="soft"))
