"""Counting over tasks: shares, levels, confusions, calibration, and what several people say."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from backend.quality.lead_times import time_saved
from backend.quality.looks import threshold_at_looks
from backend.quality.measures import Confusion, Measures, calibration_error, reliability
from backend.quality.page import render_quality
from backend.quality.people import Labelled
from backend.quality.summary import FindThreshold, quality_of
from backend.quality.threshold import guaranteed_threshold
from backend.quality.words import Sentences
from label_config.answer import Answer, FieldAnswer, FieldValue
from label_config.parse import parse_label_config
from tests.backend.bulk.report_rig import Seen

SCHEMA = parse_label_config(
    '<View><Image name="image" value="$image"/>'
    '<Choices name="season" toName="image"><Choice value="summer"/><Choice value="winter"/></Choices>'
    '<Choices name="fur" toName="image" visibleWhen="choice-selected" whenTagName="season" whenChoiceValue="winter">'
    '<Choice value="yes"/><Choice value="no"/></Choices>'
    '<TextArea name="caption" toName="image"/></View>'
)


Task = partial(Labelled, model_version="m")


def answer(season: str, confidence: float = 0.9, caption: str = "x", **more: FieldValue) -> Answer:
    fields = {"season": FieldAnswer((season,), confidence), "caption": FieldAnswer(caption)}
    return Answer(fields | {name: FieldAnswer(value, confidence) for name, value in more.items()})


def test_shares_confusions_and_the_whole_task_are_counted() -> None:
    measures = Measures(SCHEMA)
    measures.add(answer("summer"), answer("summer", caption="y"), "a")
    measures.add(answer("summer", 0.6), answer("winter"), "b")
    measures.add(answer("summer", 0.5), answer("winter"), "c")

    season = measures.fields["season"]
    assert (season.right.num_right, season.right.num) == (1, 3)
    assert (measures.right.num_right, measures.right.num) == (1, 3), "a caption does not make a task wrong"
    assert measures.fields.keys() == {"season", "caption"}
    assert measures.scored == [(0.9, True), (0.6, False), (0.5, False)]
    (confusion,) = season.confusions(5)
    assert confusion == Confusion("summer", "winter", 2, ("b", "c"))
    assert measures.fields["caption"].kept == pytest.approx(2 / 3)


def test_a_task_without_a_score_is_one_of_all_and_passes_nowhere() -> None:
    measures = Measures(SCHEMA)
    for number in range(60):
        measures.add(answer("summer"), answer("summer"), str(number))
        measures.add(Answer({"caption": FieldAnswer("x")}, truncated=True), answer("summer"), f"cut {number}")

    found = guaranteed_threshold(measures.scored, 0.05, 0.1)
    assert (found.threshold, found.num, found.num_all) == (0.05, 60, 120)


def test_a_field_that_people_filled_nowhere_makes_no_task_wrong() -> None:
    tasks = [Task("a", answer("winter", fur=("yes",)), Answer({"season": FieldAnswer(("winter",))}))]

    found = quality_of(SCHEMA, tasks, {}, target=0.05, delta=0.1)

    assert found.unfilled == ("fur", "caption")
    assert [(field.name, field.blind.num_right) for field in found.fields] == [("season", 1)]
    assert (found.blind.num_right, found.blind.num) == (1, 1)


@pytest.mark.parametrize("num_filled", [1, 0], ids=["blind", "anywhere"])
def test_a_field_that_nobody_filled_is_in_no_guarantee_and_that_is_said(num_filled: int) -> None:
    given, season = answer("winter", fur=("yes",)), Answer({"season": FieldAnswer(("winter",))})
    tasks = [Task(str(n), given, season) for n in range(60)]
    tasks += [Task("a", given, given, saw_answer=True)] * num_filled

    found = quality_of(SCHEMA, tasks, {}, target=0.05, delta=0.1)

    assert (found.blind.num_right, found.threshold.threshold, found.unchecked) == (60, 0.05, ("fur",))
    assert ("fur" in found.unfilled) is not bool(num_filled)
    for said in (Sentences("en").of(found), Sentences("en").in_short(found, "12", 0.0)):
        assert any("Nobody filled fur in any picture that was checked blind" in sentence for sentence in said)


@pytest.mark.parametrize("right", [Answer({}), Answer({"caption": FieldAnswer("a red coat")})])
@pytest.mark.parametrize("find", [guaranteed_threshold, threshold_at_looks])
def test_where_people_filled_no_label_nothing_is_right_or_may_pass(right: Answer, find: FindThreshold) -> None:
    """Not "every label is right, and all may pass": there was none to be wrong."""
    tasks = [Task(str(n), answer("winter", caption="a blue coat"), right) for n in range(120)]

    found = quality_of(SCHEMA, tasks, {}, target=0.05, delta=0.1, find=find)

    assert (found.num_blind, found.blind.num, found.blind.share, found.threshold.threshold) == (120, 0, None, None)
    page = Seen(render_quality(found, "en")).text
    for said in (*Sentences("en").of(found), *Sentences("en").in_short(found, "12", 0.0), page):
        assert "every label is right" not in said
        assert "What scores" not in said
        assert "No label was wrong" not in said
    assert "120 pictures were checked blind, and nobody filled a label" in page
    assert "盲检过的 120 张里没有人填写过任何标签" in next(Sentences("zh").of(found))


def test_no_figure_of_a_field_is_of_blind_and_pre_filled_tasks_together() -> None:
    right, wrong = answer("summer", 0.9, "red"), answer("winter", 0.9, "blue")
    blind = [Task(str(n), right, wrong) for n in range(2)]
    filled = [Task(f"f{n}", right, right, saw_answer=True) for n in range(98)]

    season, caption = quality_of(SCHEMA, [*blind, *filled], {}, target=0.05, delta=0.1).fields
    assert [one.right.num_right for one in season.reliability] == [0]
    assert season.calibration_error is None, "of two"
    assert (caption.kept, caption.is_of_blind) == (1.0, False), "of a text that was shown"
    [alone, _] = quality_of(SCHEMA, filled, {}, target=0.05, delta=0.1).fields
    assert (alone.reliability, alone.temperature) == ((), 1.0)


def test_a_field_that_people_were_not_shown_is_not_counted() -> None:
    measures = Measures(SCHEMA)
    measures.add(answer("winter", fur=("yes",)), answer("summer"), "hidden by what is right")
    measures.add(answer("winter", fur=("yes",)), answer("winter", fur=("no",)), "shown")

    assert (measures.fields["fur"].num_right, measures.fields["fur"].num) == (0, 1)


def test_confidence_is_set_beside_the_share_that_is_right() -> None:
    scored = [(0.95, True), (0.85, True), (0.85, False), (0.8, True), (0.3, False), (1.0, True)]

    assert [(b.low, b.num, b.right.num_right) for b in reliability(scored)] == [(0.3, 1, 0), (0.8, 3, 2), (0.9, 2, 2)]
    # |0.3 - 0| + 3 |2.5/3 - 2/3| + 2 |0.975 - 1|, over 6
    assert calibration_error(scored) == pytest.approx((0.3 + 0.5 + 0.05) / 6)
    assert calibration_error([]) is None


def test_blind_and_pre_filled_tasks_are_never_added_up_and_everything_is_accounted_for() -> None:
    right, wrong = answer("summer"), answer("winter")
    tasks = [Task("a", right, right, lead_s=40), Task("b", right, wrong, lead_s=60)]
    tasks += [
        Task(f"c{n}", right, right, model_version="n", saw_answer=True, lead_s=10, agrees=n > 0) for n in range(3)
    ]

    found = quality_of(SCHEMA, tasks, {"not_labelled": 2}, target=0.05, delta=0.1)

    assert (found.num_entries, found.num_blind, found.num_filled) == (7, 2, 3)
    assert (found.blind.num_right, found.filled.num_right) == (1, 3)
    assert found.model_versions == {"m": 2, "n": 3}
    assert found.threshold.num_all == 2, "only blind tasks carry a guarantee"
    assert (found.agreement.num_right, found.agreement.num) == (2, 3)
    assert found.time_saved is not None
    assert (found.time_saved.factor, found.time_saved.low) == (5.0, None), "two are too few for an interval"


def test_time_saved_has_an_interval_around_the_ratio_of_medians() -> None:
    saved = time_saved([50.0 + n for n in range(30)], [10.0 + n % 5 for n in range(200)])

    assert saved is not None
    assert saved.low is not None
    assert saved.high is not None
    assert saved.low < saved.factor == 64.5 / 12 < saved.high
    assert time_saved([], [3.0]) is None


@pytest.mark.parametrize("num", [5, 6, 40, 101])
def test_the_interval_of_a_median_is_that_of_samples_that_are_really_drawn(num: int) -> None:
    chance = np.random.default_rng(num)
    seconds = chance.lognormal(3.0, 0.6, num)
    drawn = np.median(seconds[chance.integers(0, num, (20_000, num))], axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])

    saved = time_saved(list(seconds), [1.0] * 5)
    assert saved is not None
    assert (saved.low, saved.high) == (pytest.approx(low, rel=0.05), pytest.approx(high, rel=0.05))
