"""The report says what the run did, in both languages, on a page of a bounded size."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

import backend.bulk.report
from backend.bulk.report import write_report
from backend.bulk.report.words import TEXTS
from backend.pages.html import TEMPLATES
from backend.pages.words import Language, Words
from tests.backend.bulk.report_rig import (
    LANGUAGES,
    SCHEMA,
    SUMMARY,
    UNREADABLE,
    Seen,
    failure,
    jpeg,
    lines,
    record,
    report,
)
from tests.limits import examples

LABELS = ("服饰", "外套", "T恤", "箱包", "夏季", "秋冬", "四季")
HAN = re.compile("[\u4e00-\u9fff]")


def test_a_run_is_said_in_figures(tmp_path: Path) -> None:
    page = report(
        tmp_path,
        [record("a"), record("b", 0.3), record("c")],
        [failure("d")],
        num_total=10_004,
        num_done=2,
        num_skipped=1,
        num_failed=1,
        seconds=30.0,
        price_per_minute=1.0,
        state="interrupted",
    )
    text = Seen(page).text
    counts = (
        "共 10,004 张图片",
        "其中此前已完成 1 张",
        "占已标注的 33.3%",
        "占处理过的 25.0%",
        "还有 10,000 张图片没有处理",
    )
    costs = ("6.0 张/分钟", "¥0.50", "每 1 万张约 ¥1,666.67", "另加载模型 2.0 秒")
    assert [said for said in (*counts, *costs) if said not in text] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_failure_is_said_with_what_to_do_about_it(tmp_path: Path, language: Language) -> None:
    page = report(tmp_path, [], [failure("a", "image_private_address")], language=language, left_out=(UNREADABLE,))
    text = Seen(page).text
    assert "PRELABEL_ALLOWED_NETWORKS" in text
    assert Words(language).remedy("image_private_address") in text
    assert Words(language).remedy("folder_unreadable") in text
    assert "/a (Permission denied)" in text


@pytest.mark.parametrize(
    ("language", "named", "noted", "promises"),
    [
        ("zh", "未被标记复核66.7%", "“未被标记”不等于“正确”", ("无需复核", "全部成功")),
        (
            "en",
            "Not flagged for review66.7%",
            "does not find every mistake",
            ("No review needed", "every picture worked"),
        ),
    ],
)
def test_what_is_not_flagged_is_not_called_right(
    tmp_path: Path, language: Language, named: str, noted: str, promises: tuple[str, ...]
) -> None:
    page = report(tmp_path, [record("a"), record("b", 0.3), record("c")], language=language)
    text = Seen(page).text
    assert named in text
    assert noted in text
    assert [promise for promise in promises if promise in text] == []
    assert 'class="d-good"' not in page


@pytest.mark.parametrize("language", LANGUAGES)
def test_labels_are_ranked_and_told_with_their_share(tmp_path: Path, language: Language) -> None:
    seasons = [("夏季", "秋冬"), ("秋冬",), ()]
    text = Seen(report(tmp_path, [record(str(i), season=s) for i, s in enumerate(seasons)], language=language)).text
    assert re.search(r"秋冬266\.7%夏季133\.3%四季00%", text)
    assert TEXTS["left_empty"][language == "en"] + "133.3%" in text
    assert "服饰 / T恤3100%" in text


def test_texts_and_numbers_left_empty_are_told_and_not_averaged(tmp_path: Path) -> None:
    made = [
        record("a", caption="短" * 10, price=8),
        record("b", caption="长" * 40, price=9.5),
        record("c", caption=None),
    ]
    made.append(record("d", caption=None, price=None))
    made[2]["fields"]["price"] = 12
    text = Seen(report(tmp_path, made)).text
    assert "平均25最短10最长40未填写2" in text
    assert "平均 9.83，8–12 · 未填写 1" in text


def test_a_long_tail_of_labels_is_folded(tmp_path: Path) -> None:
    made = [record(str(i), category=((f"类目{i % 50:02}",),)) for i in range(100)] + [record(category=(("箱包",),))] * 9
    text = Seen(report(tmp_path, made)).text
    tail = text[text.index("箱包9") : text.index("其他")]
    assert len(re.findall(r"类目\d\d2", tail)) == 28
    assert "其他 22 种标签44" in text
    assert "51 种标签" in text


def test_exactly_thirty_labels_are_all_shown(tmp_path: Path) -> None:
    text = Seen(report(tmp_path, [record(str(i), category=((f"类目{i:02}",),)) for i in range(30)])).text
    assert "类目29" in text
    assert "其他 " not in text


def test_the_lowest_confidence_comes_first_with_what_a_person_needs(tmp_path: Path) -> None:
    made = [record(f"picture-{i:03}", 0.2 + i / 200) for i in range(100)]
    page = report(tmp_path, made, thumbnails=lambda image: jpeg(image) if image.endswith("000.jpg") else None)
    assert re.findall(r">(picture-\d+)</b>", page) == [f"picture-{i:03}" for i in range(60)]
    assert page.count("<img ") == 1
    assert page.count("无缩略图") == 59
    first = page[page.index("<article") : page.index("</article>")]
    text = Seen(first).text
    for said in ("20.0%", "一件短袖T恤", "品类：置信度 20%，低于 50%", "服饰 / T恤", "画质4"):
        assert said in text


def test_failures_are_listed_by_reason_and_share_the_room(tmp_path: Path) -> None:
    failures = [failure(f"corrupt-{i}") for i in range(300)] + [
        failure(f"gone-{i}", "image_not_found") for i in range(5)
    ]
    text = Seen(report(tmp_path, [], failures)).text
    assert "300图片已损坏" in text
    assert text.count("/pictures/corrupt-") == 50
    assert "另有 250 个" in text
    assert "5图片不存在" in text
    assert "没有标注结果" in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_run_without_anything_has_a_report(tmp_path: Path, language: Language) -> None:
    text = Seen(report(tmp_path, language=language, num_done=0, num_total=0, seconds=0.0)).text
    assert TEXTS["empty"][language == "en"] in text
    assert TEXTS["no_failures"][language == "en"] in text


def test_a_line_that_is_no_record_is_told(tmp_path: Path) -> None:
    records = lines(tmp_path / "out.jsonl", [record()])
    with records.open("ab") as file:
        file.write(b'{"image_id": "b", "capt')
    out = tmp_path / "report.html"
    write_report(records, tmp_path / "none", out, schema=SCHEMA, summary=SUMMARY, language="zh")
    assert "有 1 行无法读取" in out.read_text(encoding="utf-8")


def test_every_text_says_the_same_in_both_languages() -> None:
    for key, (chinese, english) in TEXTS.items():
        names = [{name for _, name, _, _ in string.Formatter().parse(text) if name} for text in (chinese, english)]
        assert names[0] == names[1], key
        assert not HAN.search(english), key


def test_every_text_is_used() -> None:
    report = Path(backend.bulk.report.__file__).parent
    paths = [*TEMPLATES.glob("report*.html"), *report.glob("*.py")]
    code = "".join(path.read_text("utf-8") for path in paths).replace("'", '"')
    unused = {key for key in TEXTS if code.count(f'"{key}"') < 2}
    # A run's state is the name of its text; `duration` of the status page asks for the other.
    assert unused == {"interrupted", "stopped", "interrupted_unknown", "stopped_unknown", "minutes"}


def test_the_english_page_holds_chinese_only_where_the_project_does(tmp_path: Path) -> None:
    made = [record("a", 0.3), record("b")]
    text = Seen(report(tmp_path, made, [failure("c")], language="en", left_out=(UNREADABLE,), num_skipped=1)).text
    for own in ("图片描述", "品类", "季节", "画质", "价格", made[0]["caption"], *LABELS):
        text = text.replace(own, "")
    assert not HAN.search(text)


def test_what_was_said_of_a_failure_in_english_is_marked_as_such_in_the_chinese_page(tmp_path: Path) -> None:
    page = report(tmp_path, [record()], [failure("c", message="It is damaged.")], language="zh")
    assert page.count("It is damaged.") == 1
    assert re.search(r'英文原文</summary>\s*<p class="soft" lang="en">It is damaged.</p>', page)


def test_many_thousand_records_make_a_small_page(tmp_path: Path) -> None:
    """With labels, names, captions and reasons that are many and long."""
    num = examples(10, 100)
    name, caption = "很长的文件名" * 20, "一件短袖T恤，" * 20
    made = (record(f"{name}-{i}", 0.2 + i / 700, caption=caption, category=((f"类目{i}" * 30,),)) for i in range(500))
    records, failed, out = tmp_path / "out.jsonl", tmp_path / "out.failed.jsonl", tmp_path / "report.html"
    records.write_bytes(lines(records, made).read_bytes() * num)
    lines(failed, (failure(name, f"reason-{i % 60}", "long " * 100) for i in range(2_000)))
    write_report(records, failed, out, schema=SCHEMA, summary=SUMMARY, language="zh")
    assert f"{500 * num:,}" in out.read_text(encoding="utf-8")
    assert out.stat().st_size < 1_000_000
