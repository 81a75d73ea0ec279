"""`benchmarks.load` on little load: a scene runs, counts what it sent, and says what its limits are.

Those that need a whole backend, a minute each, run by `make soak`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import load
from benchmarks.load_scenes.projects import config_of, is_legal, labels_of
from benchmarks.report import Figure, Measure, Part, latencies


def figures_of(scene: str, tmp_path: Path) -> dict[str, dict[str, Any]]:
    path = tmp_path / "load.json"
    load.main(["--small", "--only", scene, "--json", str(path)])
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["small"] is True
    assert list(document["parts"]) == [scene]
    found: dict[str, dict[str, Any]] = document["parts"][scene]["figures"]
    return found


def returning(*figures: Figure) -> Measure:
    return lambda folder, small: Part("some figures", figures)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("scene", "counted", "limits"),
    [
        (
            "health",
            {"replies that are not 200": 0},
            {"/health: p99": 0.2, "/health: max": 1.0, "/setup: max": 3.0, "/webhook: max": 0.5},
        ),
        ("interactive", {"alone: times": 5, "beside the bulk: times": 5, "without a prediction": 0}, {}),
        (
            "projects",
            {"tasks": 60, "without a prediction": 0, "not legal under their own config": 0},
            {"the last against the mean": 2.0},
        ),
        (
            "configs",
            {"innocent replies that are not 200": 0, "other hostile replies": 0},
            {"/health: p99": 1.0, "/setup: p99": 1.0, "/predict: p99": 1.0},
        ),
        (
            "overload",
            {"other replies than 503": 0, "one 503 after the other: times": 5, "503 to 40 at once: times": 40},
            {"one 503 after the other: p99": 0.05, "503 to 40 at once: p99": 1.0},
        ),
        ("throughput", {"tasks": 60, "without a prediction": 0}, {}),
    ],
)
def test_a_scene_counts_what_it_sent_and_says_its_limits(
    scene: str, counted: dict[str, float], limits: dict[str, float], tmp_path: Path
) -> None:
    figures = figures_of(scene, tmp_path)
    assert {name: figures[name]["value"] for name in counted} == counted
    assert {name: figures[name]["limit"] for name in limits} == limits


def test_the_store_is_filled_and_worked_on(tmp_path: Path) -> None:
    figures = figures_of("store", tmp_path)
    assert (figures["rows"]["value"], figures["claim(16): times"]["value"]) == (10_000, 20)


def test_scenes_measured_again_replace_those_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "load.json"
    for name, value in (("store", 1.0), ("health", 1.0), ("store", 2.0)):
        load.main(["--small", "--json", str(path)], {name: returning(Figure("seconds", value, "s"))})
    scenes = json.loads(path.read_text(encoding="utf-8"))["parts"]
    assert {name: scene["figures"]["seconds"]["value"] for name, scene in scenes.items()} == {"store": 2, "health": 1}
    assert {"date", "hardware", "torch", "made_by_commit", "load_average"} <= scenes["store"].keys()
    load.main(["--json", str(path)], {"store": returning()})
    assert list(json.loads(path.read_text(encoding="utf-8"))["parts"]) == ["store"], "the others were of a small run"


def test_a_broken_limit_is_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert load.main([], {"store": returning(Figure("seconds", 1.0, "s", 1.0), Figure("rows", 9))}) == 0
    assert load.main([], {"store": returning(Figure("seconds", 2.0, "s", 1.0))}) == 1
    assert "NO" in capsys.readouterr().out


def test_a_percentile_is_one_of_the_measured_times() -> None:
    figures = {figure.name: figure for figure in latencies("it", [0.4, 0.1, 0.3, 0.2], max=0.3)}
    assert [figures[f"it: {name}"].value for name in ("times", "p50", "p95", "max")] == [4, 0.2, 0.4, 0.4]
    assert [name for name, figure in figures.items() if not figure.holds] == ["it: max"]
    assert [figure.value for figure in latencies("nothing", [])] == [0]


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
