"""Tasks that are more than Label Studio takes at once stand in several files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.bulk.exports.label_studio import parts_notice
from backend.bulk.parts import PartLimits, is_part, write_parts
from tests.backend.bulk.given import Here, lines, pictures


def _items(num: int, size: int = 50) -> list[dict[str, Any]]:
    return [{"n": number, "text": "裙" * size} for number in range(num)]


@pytest.mark.parametrize(
    ("num", "limits", "nums"),
    [
        (0, PartLimits(), [0]),
        (5, PartLimits(), [5]),
        (5, PartLimits(max_bytes=400), [2, 2, 1]),
        (5, PartLimits(max_bytes=10), [1, 1, 1, 1, 1]),
        (5, PartLimits(max_tasks=2), [2, 2, 1]),
        (4, PartLimits(max_tasks=2), [2, 2]),
        (2, PartLimits(max_tasks=2), [2]),
    ],
)
def test_every_item_stands_in_one_part_and_no_part_is_too_large(
    tmp_path: Path, num: int, limits: PartLimits, nums: list[int]
) -> None:
    whole = tmp_path / "shop.tasks.json"
    parts = write_parts(_items(num), whole, limits)
    assert [part.num_items for part in parts] == nums
    names = ["shop.tasks.json"] if len(nums) == 1 else [f"shop.tasks.{n}.json" for n in range(1, len(nums) + 1)]
    assert [part.path.name for part in parts] == names == sorted(path.name for path in tmp_path.iterdir())
    read = [json.loads(part.path.read_text(encoding="utf-8")) for part in parts]
    assert [len(one) for one in read] == nums
    assert [item["n"] for one in read for item in one] == list(range(num))
    assert all(part.path.stat().st_size <= limits.max_bytes or part.num_items == 1 for part in parts)


def test_parts_of_an_earlier_run_do_not_stay_beside_the_new_ones(tmp_path: Path) -> None:
    whole, other = tmp_path / "t.json", tmp_path / "t.old.json"
    other.write_text("mine")
    for num, names in ((6, "t.1 t.2 t.3"), (3, "t.1 t.2"), (1, "t"), (4, "t.1 t.2")):
        write_parts(_items(num), whole, PartLimits(max_tasks=2))
        assert sorted(path.stem for path in tmp_path.iterdir() if path != other) == names.split()
    assert other.read_text() == "mine"


def test_what_fails_on_the_way_leaves_what_was_there(tmp_path: Path) -> None:
    whole = tmp_path / "t.json"
    write_parts(_items(5), whole, PartLimits(max_tasks=2))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def failing() -> Iterator[dict[str, Any]]:
        yield from _items(3, size=1)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_parts(failing(), whole, PartLimits(max_tasks=2))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_name_that_a_part_may_get_is_known() -> None:
    whole = Path("/a/t.json")
    assert [is_part(Path(name), whole) for name in ("/a/t.1.json", "/a/t.12.json", "/a/t.0.json", "/b/t.1.json")] == [
        True, True, False, False,
    ]  # fmt: skip


def test_a_run_that_may_need_parts_says_so_before(tmp_path: Path) -> None:
    assert parts_notice(Path("shop.tasks.json"), 10_000) == ""
    assert "shop.tasks.1.json, shop.tasks.2.json, ..." in parts_notice(Path("shop.tasks.json"), 100_000)


def test_a_part_that_is_a_source_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures(tmp_path, ["a.png"])
    (tmp_path / "t.1.json").write_text(json.dumps([{"id": 1, "data": {"image": "https://a.example/a.png"}}]))
    tasks, output = tmp_path / "t.json", tmp_path / "out.jsonl"
    code, _, errors = Here(tmp_path, capsys).run(tmp_path / "t.1.json", "-o", output, "--label-studio-tasks", tasks)
    assert (code, "Choose another file for --label-studio-tasks" in errors, lines(output)) == (2, True, [])
