"""Figures in sentences: what was asked for as it was asked for, and no more than a few tasks can say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backend.pages.numbers import plain, rounded
from backend.pages.words import Language
from backend.quality.lead_times import TimeSaved
from backend.quality.looks import threshold_at_looks
from backend.quality.page import render_quality
from backend.quality.summary import FindThreshold
from backend.quality.threshold import guaranteed_threshold
from backend.quality.words import Sentences
from tests.backend.bulk.report_rig import Seen
from tests.backend.quality.given import quality


@pytest.mark.parametrize(
    ("target", "delta", "said"),
    [
        (0.05, 0.1, "at most 5% of it is wrong (90% sure)"),
        (0.025, 0.1, "at most 2.5% of it is wrong (90% sure)"),
        (0.05, 0.025, "at most 5% of it is wrong (97.5% sure)"),
        (0.0005, 0.0004, "at most 0.05% of it is wrong (99.96% sure)"),
    ],
)
def test_a_promise_is_said_as_it_was_asked_for(target: float, delta: float, said: str) -> None:
    found = guaranteed_threshold([(0.99, True)] * 20_000, target, delta)
    assert said in Sentences("en").threshold(found)
    assert "(" + said.partition("(")[2] in Sentences("en").threshold_of_field(found)
    assert "the promise of one look" in Sentences("en").threshold(found)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((99, 0), "Next look at 100 blind labels; 99 now."),
        ((120, 0), "found on the first 100 blind labels, and holds however often one looks. Next look at 200 blind"),
        ((98, 22), "Next look at 200 blind labels; 120 now. If as many stay wrong, some pass at 400."),
        ((60, 60), "Change the label config"),
    ],
)
def test_of_a_project_it_says_when_the_next_look_is_and_never_another_number(given: tuple[int, int], said: str) -> None:
    found = quality(*given, find=threshold_at_looks)
    page = Seen(render_quality(found, "en")).text
    assert said in Sentences("en").passing(found)
    assert said in page
    assert "one look, " not in page
    assert "more pictures are to be" not in page


def test_a_guarantee_that_is_void_is_said_with_what_to_ask_once_later_pictures_were_checked() -> None:
    found = quality(80, 0, num_changed=200)
    asked = "prelabel quality --project 12 --since 2026-12-03"
    assert Sentences("en").passing(found).endswith("are checked blind again.")
    for say in (Sentences("zh"), Sentences("en")):
        assert say.passing(replace(found, project="12")).endswith(asked)


@pytest.mark.parametrize("find", [guaranteed_threshold, threshold_at_looks])
def test_where_nothing_was_checked_blind_one_number_says_how_many_it_takes(find: FindThreshold) -> None:
    page = Seen(render_quality(quality(0, 0, 30, find=find), "en")).text
    assert "Have about 200 pictures, chosen by chance" in page
    assert "at least about" not in page
    assert "Next look" not in page


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0.0, "0%"),
        (0.0004, "<0.1%"),
        (0.004, "0.4%"),
        (0.5, "50%"),
        (0.996, "99.6%"),
        (0.9996, ">99.9%"),
        (1.0, "100%"),
    ],
)
def test_a_share_that_is_not_all_never_reads_so(share: float, said: str) -> None:
    assert rounded(share) == said


@pytest.mark.parametrize(
    ("number", "said"), [(0.0, "0"), (0.123, "0.123"), (1.5, "1.5"), (123.4, "123"), (5_000.2, "5,000")]
)
def test_a_number_is_written_as_people_write_it(number: float, said: str) -> None:
    assert plain(number) == said


def test_of_one_wrong_task_nothing_follows() -> None:
    said = Sentences("en").passing(quality(0, 1))
    assert "of the 1 with the highest scores 1 is wrong, and how many more" in said
    assert "Change the label config" not in said
    assert "too few to say how many it takes" in Seen(render_quality(quality(0, 1), "en")).text
    assert "Change the label config" in Sentences("en").passing(quality(40, 40))


@pytest.mark.parametrize(
    ("language", "saved", "said"),
    [
        ("zh", TimeSaved(30, 40, 8.0, 10.0, 0.8, 0.6, 0.9), "看预标注时的速度是不看时的 0.8 倍（0.6–0.9 倍）"),
        ("en", TimeSaved(30, 40, 30.0, 10.0, 3.0, 2.5, 3.5), "3.0 times as fast with it (2.5 to 3.5)"),
        ("en", TimeSaved(1, 40, 30.0, 10.0, 3.0, None, None), "(1 picture) and 10 s with it (40); too few to say how"),
        (
            "zh",
            TimeSaved(1, 1, 0.4, 0.2, 2.0, None, None),
            "不看预标注 0.4 秒（1 张），看预标注 0.2 秒（1 张）；张数太少",
        ),
    ],
)
def test_time_saved_is_said_with_its_counts_and_a_factor_only_with_an_interval(
    language: Language, saved: TimeSaved, said: str
) -> None:
    assert said in Sentences(language).time(saved)
