"""The retrieval benchmark: what it counts, when it kills."""

import pytest

from backend.label_studio.client import TaskRegions
from benchmarks.retrieval import count, plan
from benchmarks.retrieval_servers import Blow


def made(task_id: int, region_id: str, version: str = "v1") -> TaskRegions:
    return TaskRegions(task_id, ({"id": region_id},), 0.5, version)


WHOLE = [made(1, "a"), made(2, "b"), made(3, "c")]


@pytest.mark.parametrize(
    ("predictions", "broken"),
    [
        pytest.param(WHOLE, [], id="one each"),
        pytest.param(WHOLE[:2], ["tasks without one"], id="one lost"),
        pytest.param([*WHOLE, made(3, "d")], ["tasks with more than one"], id="one twice"),
        pytest.param(
            [*WHOLE[:2], made(2, "d")],
            ["tasks without one", "tasks with more than one"],
            id="one lost and one twice, which hides it in the sum",
        ),
        pytest.param([], ["tasks without one", "other model versions than one"], id="nothing"),
        pytest.param([*WHOLE, made(4, "d")], ["predictions of other tasks"], id="of another task"),
        pytest.param([*WHOLE[:2], made(3, "a")], ["region ids that are there twice"], id="another's region id"),
        pytest.param([*WHOLE[:2], made(3, "c", "v2")], ["other model versions than one"], id="two model versions"),
    ],
)
def test_what_is_lost_or_there_twice_breaks_a_limit(predictions: list[TaskRegions], broken: list[str]) -> None:
    figures = count([1, 2, 3], predictions)
    assert (figures[0].name, figures[0].value) == ("predictions", len(predictions))
    assert [figure.name for figure in figures if not figure.holds] == broken


def test_the_first_kill_is_within_the_click_and_the_last_while_predictions_are_brought() -> None:
    assert plan("killed", 2_000, small=False) == [
        Blow("backend", "accepted", 2_000),
        Blow("Label Studio", "stored", 250),
        Blow("backend", "computed", 1_000),
        Blow("backend", "stored", 1_000),
    ]
    assert [len(plan(name, 200, small=True)) for name in ("undisturbed", "reply", "killed")] == [0, 1, 2]
