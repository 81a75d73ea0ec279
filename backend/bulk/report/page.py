"""A run's `Tally` and `Summary` -> one HTML page that needs nothing else and runs nothing.

Whatever comes from outside (file names, descriptions, labels, messages) is escaped by `markup`; the policy in the page
allows its own style and pictures that are in it, and no script, form or address at all.
"""

from __future__ import annotations

import base64
import hashlib

from backend.bulk.report.assets import STYLE
from backend.bulk.report.charts import Bar, bars
from backend.bulk.report.failures import failure_list
from backend.bulk.report.fields import confidence_chart, field_card
from backend.bulk.report.gallery import gallery
from backend.bulk.report.overview import notes, overview
from backend.bulk.report.tally import Tally
from backend.bulk.report.texts import ReportWords
from backend.bulk.report.thumbnails import Thumbnails
from backend.bulk.report.visible import shown, shown_source
from backend.bulk.summary import Summary
from backend.pages.markup import Markup, join, tag
from backend.pages.words import Language, number
from label_config.schema import LabelSchema

_MAX_REASONS = 20
_MAX_SOURCES = 3
_REASON_CHARS = 160
_VERSION_CHARS = 160
_PATH_CHARS = 200


def render(tally: Tally, summary: Summary, schema: LabelSchema, language: Language, thumbnails: Thumbnails) -> str:
    words = ReportWords(language, {field.name: field.title or field.name for field in schema.fields})
    title = " · ".join(filter(None, (words("report"), _model(tally, summary))))
    head = join(
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy()),
        tag("meta", name="referrer", content="no-referrer"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("link", rel="icon", href="data:,"),
        tag("title", title),
        tag("style", STYLE),
    )
    body = tag("div", *_parts(tally, summary, schema, thumbnails, words), class_="wrap")
    page = tag("html", tag("head", head), tag("body", body), lang="zh-CN" if language == "zh" else "en")
    return f"<!doctype html>{page}\n"


def policy() -> str:
    """The style is named by its hash, so that no other can be put in."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode("ascii")
    return f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"


def _parts(
    tally: Tally, summary: Summary, schema: LabelSchema, thumbnails: Thumbnails, words: ReportWords
) -> list[Markup]:
    parts = [_header(tally, summary, words), *notes(tally, summary, words), *overview(tally, summary, words)]
    if tally.num_done:
        parts += [
            tag("h2", words("confidence"), id="confidence"),
            tag("div", _score(tally, words), _reasons(tally, words), class_="halves"),
            tag("h2", words("fields"), id="fields"),
            *(field_card(field, tally, words) for field in schema.answer_order),
            tag("h2", words("gallery"), id="gallery"),
            tag("p", words("gallery_note", num=number(len(tally.lowest))), class_="soft under"),
            gallery(tally.lowest, schema, thumbnails, words),
        ]
    else:
        parts.append(tag("section", words("empty"), class_="card empty"))
    parts += [tag("h2", words("failures"), id="failures"), failure_list(tally, words), _footer(tally, summary, words)]
    return parts


def _header(tally: Tally, summary: Summary, words: ReportWords) -> Markup:
    model = tag("span", _model(tally, summary))
    keys = ("confidence", "fields", "gallery", "failures") if tally.num_done else ("failures",)
    links = (tag("a", words(key), href=f"#{key}") for key in keys)
    return tag("header", tag("h1", words("report")), model, tag("nav", *links))


def _model(tally: Tally, summary: Summary) -> str:
    """Of the records, which a run with nothing left to do did not write itself."""
    versions = [version for version in sorted(tally.versions.by_key) if version] or [summary.model_version]
    return shown(", ".join(versions), _VERSION_CHARS)


def _score(tally: Tally, words: ReportWords) -> Markup:
    head = tag("h3", words("score"))
    chart = confidence_chart(tally.scores, words)
    return tag("section", head, tag("p", words("score_note"), class_="soft"), chart, class_="card")


def _reasons(tally: Tally, words: ReportWords) -> Markup:
    ranked = sorted(
        ((shown(words.review_reason(reason, group=True), _REASON_CHARS), num)
         for reason, num in tally.reasons.by_key.items()),
        key=lambda item: (-item[1], item[0]),
    )  # fmt: skip
    rest = sum(num for _, num in ranked[_MAX_REASONS:]) + tally.reasons.num_beyond
    rows = [Bar(name, num, num / max(1, tally.num_review)) for name, num in ranked[:_MAX_REASONS]]
    if rest:
        rows.append(Bar(words("other_reasons"), rest, rest / max(1, tally.num_review), "rest"))
    if rows:
        note = tag("p", words("reasons_note"), class_="soft")
        below = join(note, bars(rows, (words("reasons"), words("count"), words("share"))))
    else:
        below = tag("p", words("no_reasons"), class_="soft")
    return tag("section", tag("h3", words("reasons")), below, class_="card doubts")


def _footer(tally: Tally, summary: Summary, words: ReportWords) -> Markup:
    sources = [shown_source(source, _PATH_CHARS) for source in summary.sources[:_MAX_SOURCES]]
    if len(summary.sources) > _MAX_SOURCES:
        sources.append(words("more_sources", num=number(len(summary.sources))))
    facts = [
        (words("model"), _model(tally, summary)),
        (words("sources"), ", ".join(sources)),
        (words("output"), shown_source(summary.output, _PATH_CHARS)),
        (words("finished"), words.time_of_day(summary.finished_at) if summary.finished_at else ""),
    ]
    told = (tag("div", tag("dt", name), tag("dd", fact)) for name, fact in facts if fact)
    return tag("footer", tag("dl", *told), tag("p", words("made_by")))
