"""The head of the report: what is done, failed and doubtful, how fast, how long, for how much; and what to know first.

Counts are of the files, so of all runs into them; speed, time and cost are of the last run.
"""

from __future__ import annotations

from backend.bulk.report.charts import stacked
from backend.bulk.report.tally import Tally
from backend.bulk.report.texts import ReportWords, percent
from backend.bulk.report.visible import shown_source
from backend.bulk.summary import Summary
from backend.pages.markup import Markup, tag
from backend.pages.words import number

_MAX_PROBLEMS = 5
_PROBLEM_CHARS = 300
_BULK = 10_000


def overview(tally: Tally, summary: Summary, words: ReportWords) -> list[Markup]:
    parts = [
        ("good", words("ready_to_use"), tally.num_done - tally.num_review),
        ("doubt", words("num_review"), tally.num_review),
        ("bad", words("num_failed"), tally.num_failed),
    ]
    if summary.num_left:
        parts.append(("left", words("not_reached"), summary.num_left))
    tiles = [*_counts(tally, summary, words), *_costs(summary, words)]
    return [tag("dl", *tiles, class_="tiles"), tag("section", stacked(parts), class_="card shares")]


def notes(tally: Tally, summary: Summary, words: ReportWords) -> list[Markup]:
    """What is wrong with the run as a whole."""
    told: list[str] = []
    if summary.state != "finished" and summary.num_left != 0:
        left = summary.num_left
        told.append(words(summary.state, num=number(left)) if left else words(f"{summary.state}_unknown"))
    told += [shown_source(problem, _PROBLEM_CHARS) for problem in summary.problems[:_MAX_PROBLEMS]]
    if len(summary.problems) > _MAX_PROBLEMS:
        told.append(words("problems", num=number(len(summary.problems) - _MAX_PROBLEMS)))
    if tally.num_unreadable:
        told.append(words("unreadable", num=number(tally.num_unreadable)))
    if not told:
        return []
    return [tag("section", *(tag("p", one, class_="note warn") for one in told), class_="card notes")]


def _counts(tally: Tally, summary: Summary, words: ReportWords) -> list[Markup]:
    done, failed, doubtful = tally.num_done, tally.num_failed, tally.num_review
    all_pictures = words("of_pictures", num=number(done + failed + (summary.num_left or 0)))
    before = words("skipped", num=number(summary.num_skipped)) if summary.num_skipped else ""
    share = words("of_done", share=percent(doubtful / done)) if done else ""
    ok = words("none_failed") if done and not failed else ""
    total = done + failed
    failed_note = words("share_of_all", share=percent(failed / total)) if failed else ok
    return [
        _tile("done", words("num_done"), number(done), all_pictures, before),
        _tile("failed", words("num_failed"), number(failed), failed_note, kind="wrong" if failed else ""),
        _tile("review", words("num_review"), number(doubtful), share, kind="doubt" if doubtful else ""),
    ]


def _costs(summary: Summary, words: ReportWords) -> list[Markup]:
    num_now = summary.num_done + summary.num_failed
    now = words("this_run", num=number(num_now)) if summary.num_skipped or summary.num_failed_before else ""
    load = words("load", time=words.short_duration(summary.load_s)) if summary.load_s else ""
    tiles = [
        _tile("speed", words("speed"), words.rate(summary.images_per_s) if num_now else "—", now),
        _tile("time", words("time"), words.short_duration(summary.seconds), load),
    ]
    if summary.cost_yuan is not None and summary.price_per_minute is not None:
        note = ""
        if summary.images_per_s:
            bulk = words.yuan(summary.price_per_minute * _BULK / summary.images_per_s / 60)
            note = words("price", price=f"{summary.price_per_minute:g}", yuan=bulk)
        tiles.append(_tile("cost", words("cost"), words.yuan(summary.cost_yuan), note))
    return tiles


def _tile(key: str, name: str, value: str, *told: str, kind: str = "") -> Markup:
    lines = [tag("dt", name), tag("dd", value, class_="big", id=f"tile-{key}")]
    lines += [tag("dd", one, class_="soft") for one in told if one]
    return tag("div", *lines, class_=f"tile {kind}".strip())
