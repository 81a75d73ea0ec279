"""The benchmark of bulk runs: small runs of the real command, and what it counts, on files made for it."""

import json
from pathlib import Path
from typing import Any

import pytest

from backend.engine.messages import Sampling
from benchmarks import bulk, bulk_kills
from benchmarks.bulk_article import FreeOutput, run, same_in_threads
from benchmarks.bulk_command import LineCounter, Sample, cpu_s_per_picture, records_of
from benchmarks.bulk_labels import Quality, invalid_reason, parse_free, quality
from benchmarks.bulk_overhead import Pair, median_cpu_overhead, median_overhead, total_overhead
from benchmarks.bulk_parts import by_thousand
from label_config.parse import parse_label_config
from label_config.ready_made import ready_made
from model_loader.loader import load_model
from tests.limits import examples
from training.variants import shipped_schema

SCHEMA = shipped_schema("zh")
SHIRT: dict[str, Any] = {
    "caption": "一件T恤",
    "category": "服饰 / 上装 / T恤",
    "style": "休闲",
    "season": "夏季",
    "scene": "日常出行",
}


def test_a_run_of_the_command_prints_and_writes_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "figures.json"
    path.write_text(json.dumps({"resume": {"lines": 7}, "whole": {"pictures": 1}}), encoding="utf-8")
    num = examples(16, 200)
    bulk.main(["--only", "whole", "--pictures", str(num), "--json", str(path)])
    figures = json.loads(path.read_text(encoding="utf-8"))
    assert figures["resume"] == {"lines": 7}  # of another part: kept
    found = figures["whole"]
    assert found["pictures"] == num
    assert found["images_per_s"] > 0
    assert found["yuan_for_10000"] == pytest.approx(10_000 / found["images_per_s"] / 60 * 0.06)
    assert found["accuracy"].keys() == {"category", "style", "season", "scene"}
    assert min(found["accuracy"].values()) > 0.7
    assert found["invalid_share"] == 0
    assert all(row["peak_rss_mib"] > 0 for row in found["by_thousand"])  # of so few pictures perhaps no row
    assert found["peak_rss_mib"] > 100
    assert {"date", "hardware", "torch"} <= figures.keys()
    assert "images/s" in capsys.readouterr().out


def test_free_output_of_four_threads_is_that_of_one_and_can_be_parsed(tmp_path: Path) -> None:
    classes = bulk.write_pictures(tmp_path, 2)
    pictures = sorted(tmp_path.glob("*.png"))
    loaded = load_model("garments", device="cpu")
    assert same_in_threads(loaded, SCHEMA, 256, pictures) == 2
    free = run(FreeOutput(loaded, SCHEMA, 256, Sampling(temperature=0.0)), pictures)
    found = quality(SCHEMA, [parse_free(text) for text in free.texts], classes.tolist())
    assert found == Quality(2, {}, {"category": 1.0, "style": 1.0, "season": 1.0, "scene": 1.0})


@pytest.mark.parametrize(
    ("text", "values"),
    [
        pytest.param('好的：\n{"style": "休闲"}\n以上。', {"style": "休闲"}, id="words around the object"),
        pytest.param('{"style": "休闲"', None, id="no end"),
        pytest.param('["休闲"]', None, id="no object"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_the_object_in_free_output_is_found(text: str, values: dict[str, str] | None) -> None:
    assert parse_free(text) == values


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({}, None, id="as a record has it"),
        pytest.param({"category": ["服饰", "上装", "T恤"], "style": ["休闲"]}, None, id="as the model writes it"),
        pytest.param({"category": "服饰>上装>T恤"}, None, id="angles"),
        pytest.param({"category": ["服饰", "T恤"]}, "a path that does not exist", id="a level left out"),
        pytest.param({"category": ["服饰", "上装"]}, "a path that does not exist", id="no leaf"),
        pytest.param({"style": "大气"}, "a label that is not there", id="another label"),
        pytest.param({"style": ["休闲", "运动"]}, "a label that is not there", id="two where one is asked for"),
        pytest.param({"caption": ""}, "a field is missing", id="an empty caption"),
        pytest.param({"scene": None}, "a field is missing", id="no scene"),
    ],
)
def test_labels_that_the_config_does_not_have_make_a_record_invalid(
    changes: dict[str, Any], reason: str | None
) -> None:
    assert invalid_reason(SCHEMA, {**SHIRT, **changes}) == reason


def test_what_cannot_be_parsed_is_invalid_and_wrong() -> None:
    found = quality(SCHEMA, [SHIRT, SHIRT, None, {**SHIRT, "style": "大气"}], [0, 8, 0, 0])
    assert found.invalid == {"cannot be parsed": 1, "a label that is not there": 1}
    assert found.invalid_share == 0.5
    assert found.accuracy == {"category": 0.5, "style": 0.25, "season": 0.5, "scene": 0.75}


def test_labels_with_slashes_are_whole_names() -> None:
    schema = parse_label_config(ready_made("ecommerce.zh"))
    field = next(field for field in schema.fields if field.name == "category")
    for path in field.paths():  # type: ignore[union-attr]
        values = {field.name: " / ".join(node.value for node in path)}
        assert invalid_reason(schema, values) in (None, "a field is missing")


def test_a_line_without_its_end_and_one_that_is_no_record_are_seen(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    record = json.dumps({"image_id": "a", "image": "/a.png", **dict.fromkeys(("caption", "tags", "fields"))})
    output.write_text(f'{record}\n{{"image_id"\n{record}', encoding="utf-8")
    assert bulk_kills.look(output, 1.0) == bulk_kills.Kill(1.0, 2, 1, len(record))


def test_only_a_run_that_lost_and_repeated_nothing_is_exact() -> None:
    kills = (bulk_kills.Kill(1.0, 2, 0, 0), bulk_kills.Kill(1.0, 95, 0, 0))
    resumed = bulk_kills.Resumed(num=100, kills=kills, lines=100, twice=0, lost=0, in_work=8)
    assert resumed.is_exact
    assert resumed.asked_twice_at_most == 8 + 5
    assert not bulk_kills.Resumed(100, kills, 101, 1, 0, 8).is_exact
    assert not bulk_kills.Resumed(100, (bulk_kills.Kill(1.0, 2, 1, 0),), 100, 0, 0, 8).is_exact


def test_the_lines_of_a_growing_file_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    count = LineCounter(path)
    assert count() == 0
    path.write_bytes(b"1\n2\n3")
    assert count() == 2
    path.write_bytes(b"1\n2\n3\n")
    assert count() == 3


def test_a_picture_with_two_records_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text('{"image_id": "a"}\n{"image_id": "a"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="a is there twice"):
        records_of(path)


def test_memory_and_cpu_time_are_those_of_the_run_without_loading() -> None:
    loading = [Sample(at_s, 0, 9 * 2**20, 0, at_s) for at_s in (0.0, 1.0)]
    during = [Sample(2.0 + n, 2 * n + 1, n * 2**20, n * 2**19, 2.0 + n / 4) for n in range(50)]
    end = [Sample(52.0, 100, 3 * 2**20, 0, 14.5), Sample(53.0, 100, 99 * 2**20, 0, 0.0)]
    ended = Sample(51.9, 100, 0, 0, 3.0)
    first, last = by_thousand([*loading, *during, ended, *end], 100)
    assert (first["until"], first["peak_rss_mib"]) == (50, 24)
    assert (last["until"], last["peak_rss_mib"]) == (100, 49)
    assert last["own_peak_rss_mib"] == 24.5
    assert first["images_per_s"] == pytest.approx(2.0)
    assert cpu_s_per_picture([*loading, *during, *end], 100) == pytest.approx(0.125)
    assert cpu_s_per_picture(loading, 100) is None
    assert by_thousand(loading, 100) == [], "nobody looked while it ran"


def test_the_median_pair_counts() -> None:
    pairs = [Pair(10, seconds, 10.0, cpu, 0.02, 10, 1.0) for seconds, cpu in ((11.0, 0.03), (30.0, 0.02), (10.5, None))]
    assert median_overhead(pairs) == pytest.approx(0.1)
    assert total_overhead(pairs) == pytest.approx(21.5 / 30)
    assert median_cpu_overhead(pairs) == pytest.approx(0.25)
