"""How good a project's answers are, as its part of the page, /status.json and /metrics tell it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from rich.console import Console

from backend.commands import status
from backend.pages.words import Language
from backend.quality.drift import Drift
from backend.quality.looks import threshold_at_looks
from backend.quality.people import Labelled
from backend.quality.summary import quality_of
from backend.quality.watch import Looked
from backend.quality.words import Sentences
from backend.status.gauges import metrics_text
from backend.status.page import render_live
from backend.status.view import ProjectView, StatusView
from backend.store import Store
from label_config.answer import Answer, FieldAnswer
from tests.backend.bulk.given import SCHEMA
from tests.backend.status.rig import HOSTILE, NOW, READY, queued
from tests.backend.status.test_view import PROJECT, view_of
from tests.backend.store.given import QUICK


def looked(num_blind: int, num_wrong: int = 0, num_filled: int = 20, audit_share: float = 0.0) -> Looked:
    def task(number: int, season: str, saw_answer: bool) -> Labelled:
        given = Answer({"season": FieldAnswer(("冬季",), 0.97)})
        right = Answer({"season": FieldAnswer((season,))})
        return Labelled(str(number), given, right, "v1", saw_answer, lead_s=10.0 if saw_answer else 40.0)

    tasks = [task(n, "夏季" if n < num_wrong else "冬季", False) for n in range(num_blind)]
    tasks += [task(n, "冬季", True) for n in range(1_000, 1_000 + num_filled)]
    found = quality_of(SCHEMA, tasks, {}, target=0.05, delta=0.1, find=threshold_at_looks)
    zh, en = (tuple(Sentences(language).in_short(found, "12", audit_share)) for language in ("zh", "en"))  # type: ignore[arg-type]
    return Looked("v1", found, zh, en, NOW - 60)


def shown(folder: Path, known: Looked) -> StatusView:
    folder.mkdir(exist_ok=True)
    with Store.open(folder / "a.db", NOW, QUICK) as store:
        queued(store, PROJECT, [1])
        return view_of(store, people={PROJECT: known})


def page(view: StatusView, language: Language = "en") -> str:
    return render_live(view, language, sign=lambda action, project: "")


def project(view: StatusView) -> ProjectView:
    [only] = view.projects
    return only


def test_the_page_says_how_good_how_much_faster_and_what_may_pass(tmp_path: Path) -> None:
    view = shown(tmp_path, looked(120))
    assert "盲检 120 张：所有标签都正确的占 100%" in page(view, "zh")
    assert "速度是不看时的 4.0 倍" in page(view, "zh")
    english = page(view)
    assert "What scores 0.05 or more may pass unseen" in english
    assert "holds however often one looks. Next look at 200 blind labels; 120 now." in english
    assert "asks for at most 5% wrong (90% sure). For another --target, for the fields and for what" in english
    assert "prelabel quality --project 12" in english
    assert "Read 1 min ago; of the answers under model version v1" in english


def test_it_says_what_to_do_where_nothing_can_be_promised_yet(tmp_path: Path) -> None:
    assert "Next look at 100 blind labels; 5 now" in page(shown(tmp_path / "few", looked(5)))
    unchecked = page(shown(tmp_path / "a", looked(0)))
    assert "To begin a blind check: prelabel connect --project 12 --audit 5" in unchecked
    assert "of the tasks that had no answer yet, 5% open empty" in unchecked
    begun = page(shown(tmp_path / "b", looked(0, audit_share=0.05)), "zh")
    assert "盲检已开启（开启时还没有预标注的任务中，5% 标注前不显示答案）" in begun
    assert "says yet how good the answers are" in page(shown(tmp_path / "c", looked(0, num_filled=0)))


def test_what_may_pass_is_nothing_once_later_pictures_are_other_ones(tmp_path: Path) -> None:
    known = looked(60)
    assert known.quality is not None
    void = replace(known, quality=replace(known.quality, drift=Drift(NOW, "7", 100, ("",))))
    quality = project(shown(tmp_path, void)).quality
    assert quality is not None
    assert (quality.threshold, quality.may_pass) == (None, None)
    assert quality.blind_share == 1.0


@pytest.mark.parametrize("known", [Looked(), Looked(read_at=NOW)])
def test_where_nobody_labelled_anything_the_page_says_nothing(tmp_path: Path, known: Looked) -> None:
    view = shown(tmp_path, known)
    assert "Quality" not in page(view)
    assert project(view).quality is not None


def test_trouble_with_label_studio_is_told_beside_what_was_known(tmp_path: Path) -> None:
    view = shown(tmp_path, Looked(error=f"no answer\n{HOSTILE}"))
    assert "What people labelled cannot be read: no answer &lt;img" in page(view)
    console = Console(width=400)
    with console.capture() as printed:
        console.print(status.shown(view))
    assert "What people labelled cannot be read: no answer <img" in printed.get()


def test_metrics_have_each_figure_by_project_and_leave_out_what_is_not_known(tmp_path: Path) -> None:
    def metrics(view: StatusView) -> dict[str, float]:
        lines = metrics_text(CollectorRegistry(), READY, view).decode().splitlines()
        name = "prelabel_quality_"
        return {
            line.split("{")[0].removeprefix(name): float(line.split()[-1]) for line in lines if line.startswith(name)
        }

    found = metrics(shown(tmp_path / "a", looked(60, num_wrong=3)))
    assert found["blind_right"] == 0.95
    assert 0.85 < found["blind_right_low"] < 0.95 < found["blind_right_high"] < 1.0
    assert (found["blind_tasks"], found["filled_tasks"], found["filled_unchanged"]) == (60, 20, 1.0)
    assert found["time_factor"] == 4.0
    assert "may_pass" not in found

    assert metrics(shown(tmp_path / "b", looked(100)))["may_pass"] == 1.0
    assert metrics(shown(tmp_path / "c", Looked())) == {}
