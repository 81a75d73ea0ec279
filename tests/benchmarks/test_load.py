"""`benchmarks.load` on little load: a scene runs, counts what it sent, and says what its limits are.

Those that need a whole backend, a minute each, run by `make soak`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import load
from benchmarks.figures import Figure, Measure, Part
from benchmarks.load_scenes.projects import config_of, is_legal, labels_of


def figures_of(scene: str, tmp_path: Path) -> dict[str, dict[str, Any]]:
    path = tmp_path / "load.json"
    assert load.main(["--quick", "--only", scene, "--json", str(path)]) == 0
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["quick"] is True
    assert list(document["parts"]) == [scene]
    found: dict[str, dict[str, Any]] = document["parts"][scene]["figures"]
    return found


def value(figures: dict[str, dict[str, Any]], name: str) -> float:
    return float(figures[name]["value"])


def returning(part: Part) -> Measure:
    return lambda folder, quick: part


@pytest.mark.soak
def test_health_is_polled_beside_three_kinds_of_load(tmp_path: Path) -> None:
    figures = figures_of("health", tmp_path)
    for call in ("idle /health", "/health", "/setup", "/webhook"):
        assert value(figures, f"{call}: times") > 0
        assert 0 < value(figures, f"{call}: p50") <= value(figures, f"{call}: max")
    limits = {name: figures[name]["limit"] for name in ("/health: p99", "/health: max", "/setup: max", "/webhook: max")}
    assert limits == {"/health: p99": 0.2, "/health: max": 1.0, "/setup: max": 3.0, "/webhook: max": 0.5}
    assert value(figures, "calls that failed") == 0
    assert value(figures, "/predict: replies that are not 200") == 0
    assert value(figures, "/predict of 200 tasks: predicted") > 0
    assert value(figures, "/predict of 10 dead hosts: predicted") == 0


@pytest.mark.soak
def test_one_task_is_asked_for_alone_and_beside_a_bulk(tmp_path: Path) -> None:
    figures = figures_of("interactive", tmp_path)
    assert value(figures, "alone: times") == value(figures, "beside the bulk: times") == 5
    allowed = value(figures, "alone: p95") + value(figures, "one prefill beside the bulk") + 0.5
    assert figures["beside the bulk: p95"]["limit"] == pytest.approx(allowed)
    assert value(figures, "without a prediction") == 0
    assert value(figures, "bulk: predicted in its reply") > 0


@pytest.mark.soak
def test_projects_with_their_own_labels_do_not_mix(tmp_path: Path) -> None:
    figures = figures_of("projects", tmp_path)
    assert value(figures, "tasks") == 60
    for name in ("replies that are not 200", "without a prediction", "not legal under their own config"):
        assert value(figures, name) == 0
    assert value(figures, "the last against the mean") >= 1


@pytest.mark.soak
def test_what_is_too_much_gets_a_503_with_retry_after(tmp_path: Path) -> None:
    figures = figures_of("overload", tmp_path)
    assert value(figures, "all places held: 503") == 40
    assert value(figures, "2 bursts: 200") + value(figures, "2 bursts: 503") == 80
    for name in ("2 bursts: neither", "503 without Retry-After", "work left behind"):
        assert value(figures, name) == 0


def test_the_store_is_filled_and_worked_on(tmp_path: Path) -> None:
    figures = figures_of("store", tmp_path)
    assert value(figures, "rows") == 20_000
    assert (value(figures, "claim(16): times"), value(figures, "finish: times")) == (20, 320)


def test_an_engine_that_answers_at_once_leaves_http_and_the_store(tmp_path: Path) -> None:
    figures = figures_of("throughput", tmp_path)
    assert (value(figures, "tasks"), value(figures, "without a prediction")) == (60, 0)
    assert value(figures, "transactions a task, all together") > 1


def test_scenes_measured_again_replace_those_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "load.json"
    for name in ("store", "health", "store"):
        value = 1.0 if name == "health" else float(path.exists())
        part = Part("one figure", [Figure("seconds", value, "s")])
        assert load.main(["--quick", "--json", str(path)], {name: returning(part)}) == 0
    scenes = json.loads(path.read_text(encoding="utf-8"))["parts"]
    assert {name: scene["figures"]["seconds"]["value"] for name, scene in scenes.items()} == {"store": 1, "health": 1}
    assert load.main(["--json", str(path)], {"store": returning(part)}) == 0
    assert list(json.loads(path.read_text(encoding="utf-8"))["parts"]) == ["store"], "the others were of a quick run"


def test_check_turns_a_broken_limit_into_the_exit_code() -> None:
    def scene(value: float) -> dict[str, Measure]:
        figures = (Figure("seconds", value, "s", 1.0), Figure("rows", 9))
        return {"store": returning(Part("one figure", figures))}

    assert load.main([], scene(2.0)) == 0
    assert load.main(["--check"], scene(2.0)) == 1
    assert load.main(["--check"], scene(1.0)) == 0


@pytest.mark.parametrize(
    ("name", "choices", "legal"),
    [
        pytest.param("kind3", labels_of(3)[:1], True, id="its own label"),
        pytest.param("kind3", labels_of(4)[:1], False, id="another project's label"),
        pytest.param("kind4", labels_of(3)[:1], False, id="another project's control"),
        pytest.param("kind3", labels_of(3)[:2], False, id="two labels"),
    ],
)
def test_a_prediction_is_held_to_its_own_config(name: str, choices: list[str], legal: bool) -> None:
    assert all(label in config_of(3) for label in labels_of(3))
    assert is_legal(3, {"result": [{"from_name": name, "value": {"choices": choices}}]}) is legal
