"""The report of a bulk run in a real browser, from the disk and without a network, on a desk, on a phone, at night."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import FloatRect, Page, expect

from backend.bulk.report import write_report
from backend.quality.page import render_quality
from backend.quality.summary import quality_of
from benchmarks import simulated
from tests.backend.bulk.report_rig import SCHEMA, SUMMARY, failure, lines, record
from tests.backend.quality.given import quality, schema
from tests.end_to_end.pages.browser import sideways_scroll
from tests.end_to_end.pages.bulk_run import Annotated, annotate
from training.dataset import DEFAULT_FOLDER, enlarge, read_split

HOSTILE = "<img src=https://evil.example/x onerror=alert(1)>"
LONG = "很长的名字" * 30 + "x" * 200

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, pictures: list[Path]) -> Path:
    """A run of a hundred pictures whose names, descriptions and labels want to be more than text."""
    folder = tmp_path_factory.mktemp("report")
    out = folder / "报告 #1 100%.html"
    made = [record(f"图片 {i}", 0.2 + i / 140, image=str(pictures[i % len(pictures)])) for i in range(100)]
    made += [record(HOSTILE, 0.11, caption=HOSTILE, category=((HOSTILE,),)), record(LONG, 0.12, caption=LONG)]
    made += [record(str(i), 0.95, category=((f"{LONG}{i}" if i == 3 else f"类目 {i}",),)) for i in range(40)]
    failures = [failure(HOSTILE, "image_corrupt", HOSTILE), failure(LONG, "image_not_found", LONG)]
    write_report(
        lines(folder / "out.jsonl", made),
        lines(folder / "out.failed.jsonl", failures),
        out,
        schema=SCHEMA,
        summary=SUMMARY,
        language="zh",
    )
    return out


@pytest.fixture
def report(opened: Open) -> Iterator[Open]:
    """Open a report; at the end nothing may have been asked for or complained about."""
    asked: list[str] = []
    complaints: list[str] = []
    reports: list[Path] = []

    def open_report(path: Path, width: int = 1280, height: int = 900) -> Page:
        page = opened(width, height)
        page.context.set_offline(True)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda said: complaints.append(said.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.goto(path.as_uri())
        reports.append(path)
        return page

    yield open_report
    assert complaints == []
    assert [url for url in asked if not url.startswith(("file:///", "data:"))] == []
    assert len([url for url in asked if url.startswith("file:///")]) == len(reports)


def cut_off(page: Page) -> list[str]:
    """Texts of visible elements that reach beyond the right edge of the window."""
    found: list[str] = page.evaluate(
        """[...document.querySelectorAll('body *')].filter(e => e.checkVisibility()
             && e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.outerHTML.slice(0, 120))"""
    )
    return found


def test_it_opens_from_the_disk_with_everything_in_it(written: Path, report: Open) -> None:
    page = report(written)
    expect(page.get_by_role("heading", name="预标注报告")).to_be_visible()
    assert page.locator("#tile-done").inner_text() == "142"
    assert page.locator("#tile-failed").inner_text() == "2"
    expect(page.get_by_text("其他 13 种标签")).to_be_visible()
    assert sideways_scroll(page) == 0
    assert cut_off(page) == []


def test_thumbnails_are_shown_and_what_has_none_is_a_neutral_box(written: Path, report: Open) -> None:
    page = report(written)
    cards = page.locator("article")
    assert cards.count() == 60
    expect(cards.nth(0).get_by_text("无缩略图")).to_be_visible()
    expect(cards.nth(0).get_by_text(HOSTILE).first).to_be_visible()
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 20)")
    assert page.evaluate("document.images.length") == 58
    expect(cards.nth(59)).to_be_hidden()
    page.get_by_text("再显示 36 张").click()
    expect(cards.nth(59)).to_be_visible()


def test_bars_are_as_long_as_what_they_count(written: Path, report: Open) -> None:
    page = report(written)
    lengths, counts = page.evaluate(
        """(() => {const rows = [...document.querySelectorAll('section')].find(s => s.innerText.startsWith('品类'))
             .querySelectorAll('tbody tr:not(.rest)');
           return [[...rows].map(r => r.querySelector('rect').getBoundingClientRect().width),
                   [...rows].map(r => Number(r.querySelector('.num').innerText.replace(',', '')))]})()"""
    )
    assert counts[0] == 101
    assert counts == sorted(counts, reverse=True)
    for length, count in zip(lengths, counts, strict=True):
        assert abs(length / lengths[0] - max(count / counts[0], 0.008)) < 0.01


def test_it_can_be_read_at_every_width_by_day_and_at_night(written: Path, report: Open) -> None:
    page = report(written)
    page.get_by_text("再显示").click()
    for width in (320, 375, 768, 1280, 1920):
        page.set_viewport_size({"width": width, "height": 800})
        for scheme, colour in (("light", "rgb(245, 246, 248)"), ("dark", "rgb(20, 23, 27)")):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            expect(page.locator("body")).to_have_css("background-color", colour)
            assert (sideways_scroll(page), cut_off(page)) == (0, []), (width, scheme)


def test_a_part_is_one_click_away(written: Path, report: Open) -> None:
    page = report(written, 375, 700)
    page.locator("nav").get_by_text("失败").click()
    expect(page.locator("#failures")).to_be_in_viewport()
    expect(page.get_by_text("图片已损坏")).to_be_visible()


def test_it_prints(written: Path, report: Open) -> None:
    assert report(written).pdf().startswith(b"%PDF")


def test_a_run_of_the_command_ends_in_such_a_report(
    report: Open,
    annotated: Annotated,
    tmp_path: Path,
    keep_screenshot: Callable[..., None],
    request: pytest.FixtureRequest,
) -> None:
    page = report(annotated.report)
    expect(page.locator("#tile-done")).to_have_text("8")
    expect(page.locator("#tile-failed")).to_have_text("1")
    expect(page.locator("article img")).to_have_count(8)
    expect(page.get_by_text("文件不是图片")).to_be_visible()
    if request.config.getoption("--update-screenshots"):
        page = report(annotate(fashion(tmp_path), "--price-per-minute", "0.06", exit_code=1).report)
        last = page.locator("article").nth(2).bounding_box()
        assert last is not None
        clip = FloatRect(x=0, y=0, width=1280, height=last["y"] + last["height"] + 24)
        keep_screenshot(page, "bulk-report", full_page=True, clip=clip)


def fashion(folder: Path) -> Path:
    """2,000 pictures of Fashion-MNIST, so that no figure of the screenshot is made up, and some that are broken."""
    made = folder / "服饰"
    made.mkdir()
    for number, pixels in enumerate(read_split(DEFAULT_FOLDER, "t10k")[0][:2_000]):
        enlarge(pixels).save(made / f"{number:05}.png")
    for number in range(10):
        (made / f"cut-{number}.png").write_bytes((made / f"{number:05}.png").read_bytes()[:2_000])
    (made / "notes.jpg").write_text("no picture")
    return made


@pytest.mark.parametrize("width", [1280, 390])
def test_the_quality_page_opens_from_the_disk_and_fits(
    tmp_path: Path,
    report: Open,
    width: int,
    keep_screenshot: Callable[..., None],
    request: pytest.FixtureRequest,
) -> None:
    asked = schema(HOSTILE, (LONG, HOSTILE), LONG)
    out = tmp_path / "质量.html"
    out.write_text(render_quality(quality(80, 20, 30, asked=asked), "zh", note=LONG), encoding="utf-8")

    page = report(out, width=width)

    expect(page.get_by_role("heading", name="预标注质量报告")).to_be_visible()
    assert page.locator("#tile-right").inner_text() == "80.0%"
    assert sideways_scroll(page) == 0
    if width == 1280 and request.config.getoption("--update-screenshots"):
        out.write_text(simulated_quality(), encoding="utf-8")
        page = report(out, width=1080)
        end = page.locator(".legend").bounding_box()
        assert end is not None
        clip = FloatRect(x=0, y=0, width=1080, height=end["y"] + end["height"] + 32)
        keep_screenshot(page, "quality", full_page=True, clip=clip)


def simulated_quality() -> str:
    """Of the built-in model's answers to test pictures, which are true, and people, who are not."""
    people = simulated.people(random.Random(9), simulated.answered(650), num_blind=260, num_filled=390)
    found = quality_of(simulated.schema(), people, {}, target=0.05, delta=0.1)
    note = (
        "Simulated: no person labelled these pictures. The “people” are a program that knows Fashion-MNIST's classes "
        f"and lets {simulated.ACCEPTED:.0%} of the wrong answers pass that it sees; the answers are the model's own."
    )
    return render_quality(found, "en", note=note)
