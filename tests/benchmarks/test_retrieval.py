"""The retrieval benchmark: what it counts, when it kills."""

import pytest

from backend.label_studio.client import TaskRegions
from benchmarks.retrieval_rounds import Blow, plan
from benchmarks.retrieval_site import MeasuringFailed, count


def made(task_id: int, region_id: str, version: str = "v1") -> TaskRegions:
    return TaskRegions(task_id, ({"id": region_id},), 0.5, version)


WHOLE = [made(1, "a"), made(2, "b"), made(3, "c")]


def test_one_prediction_for_each_task_is_what_is_wanted() -> None:
    found = count([1, 2, 3], WHOLE)
    assert found.exactly_one_each
    assert (found.predictions, found.without, found.duplicates) == (3, 0, 0)


@pytest.mark.parametrize(
    ("predictions", "without", "duplicates"),
    [
        pytest.param(WHOLE[:2], 1, 0, id="one lost"),
        pytest.param([*WHOLE, made(3, "d")], 0, 1, id="one twice"),
        pytest.param([*WHOLE[:2], made(2, "d")], 1, 1, id="one lost and one twice, which hides it in the sum"),
        pytest.param([], 3, 0, id="nothing"),
        pytest.param([*WHOLE[:2], made(3, "a")], 0, 0, id="a region id of another task"),
        pytest.param([*WHOLE[:2], made(3, "c", "v2")], 0, 0, id="another model version"),
    ],
)
def test_what_is_lost_or_there_twice_is_seen(predictions: list[TaskRegions], without: int, duplicates: int) -> None:
    found = count([1, 2, 3], predictions)
    assert not found.exactly_one_each
    assert (found.without, found.duplicates) == (without, duplicates)


def test_predictions_of_other_tasks_are_refused() -> None:
    with pytest.raises(MeasuringFailed, match="not in the project"):
        count([1, 2, 3], [*WHOLE, made(4, "d")])


def test_the_first_kill_is_within_the_click_and_the_last_while_predictions_are_brought() -> None:
    assert plan("killed", 2_000, 3, quick=False) == [
        Blow("backend", "accepted", 2_000),
        Blow("Label Studio", "stored", 250),
        Blow("backend", "computed", 1_000),
        Blow("backend", "stored", 1_000),
    ]


@pytest.mark.parametrize(("name", "num"), [("undisturbed", 0), ("reply", 1), ("killed", 2)])
def test_each_round_has_its_own_blows(name: str, num: int) -> None:
    assert len(plan(name, 120, 1, quick=True)) == num
