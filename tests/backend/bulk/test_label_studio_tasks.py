"""Tasks with predictions: Label Studio takes them, and a person's data stays."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from label_studio_sdk.label_interface import LabelInterface

from backend.bulk.exports.label_studio import Addresses, write_label_studio_tasks
from backend.errors import OutputError, UsageError
from label_config.answer import FieldValue
from label_config.parse import parse_label_config
from tests.backend.bulk.given import SCHEMA, record, write_lines
from tests.backend.serving import ANSWER, CAPTION, CONFIG

REVIEWED = CONFIG.replace(
    "</View>",
    """<Choices name="needs_review" toName="image"><Choice value="需人工复核"/></Choices>
    <TextArea name="review_reason" toName="image"/></View>""",
)


def _tasks(tmp_path: Path, records: list[Any], config: str = CONFIG, **options: Any) -> list[dict[str, Any]]:
    out = tmp_path / "tasks.json"
    (part,) = write_label_studio_tasks(
        write_lines(tmp_path / "out.jsonl", records),
        out,
        schema=parse_label_config(config),
        label_config=config,
        language="zh",
        addresses=options.pop("addresses", Addresses()),
        **options,
    )
    tasks: list[dict[str, Any]] = json.loads(out.read_text(encoding="utf-8"))
    assert (part.path, part.num_items) == (out, len(tasks))
    return tasks


def test_a_record_becomes_a_task_with_a_valid_prediction(tmp_path: Path) -> None:
    (task,) = _tasks(tmp_path, [record("a")])
    assert task["data"] == {"image_id": "a", "image": "/data/local-files/?d=pictures/a.png"}
    (prediction,) = task["predictions"]
    assert LabelInterface(CONFIG).validate_prediction(prediction, return_errors=True) == []
    values = {region["from_name"]: region["value"] for region in prediction["result"]}
    assert values == {
        "caption": {"text": [CAPTION]},
        "category": {"taxonomy": [["服饰", "女装", "连衣裙"]]},
        "season": {"choices": ["winter"]},  # as Label Studio stores it
    }
    assert prediction["score"] == 0.75


def test_what_needs_review_says_so_in_the_config_s_own_controls(tmp_path: Path) -> None:
    made = record("a", doubt=True)
    (task,) = _tasks(tmp_path, [made], REVIEWED)
    values = {region["from_name"]: region["value"] for region in task["predictions"][0]["result"]}
    assert values["needs_review"] == {"choices": ["需人工复核"]}
    assert values["review_reason"] == {"text": made["review_reasons"]}


EXPORT = [
    {"id": 7, "data": {"image": "/data/upload/1/a.png", "sku": "裙-1"}, "annotations": [{"result": []}]},
    {"id": 8, "data": {"image": "/data/upload/1/failed.png"}},
    {"id": 9, "data": {"image": "/data/upload/1/a.png", "price": 1.5}},
    {"data": {"image": "https://shop.example/x.png", "sku": "no id"}},
]


def test_tasks_of_an_export_keep_their_data_and_their_order(tmp_path: Path) -> None:
    export = tmp_path / "export.json"
    export.write_text(json.dumps(EXPORT, ensure_ascii=False), encoding="utf-8")
    records = [
        record("x", image="https://shop.example/x.png"),
        record("b", image="/data/upload/1/a.png", task_id=9),
        record("other"),
        record("a", image="/data/upload/1/a.png", task_id=7),
    ]
    tasks = _tasks(tmp_path, records, exports=[export])
    assert [task["data"] for task in tasks[:3]] == [EXPORT[0]["data"], EXPORT[2]["data"], EXPORT[3]["data"]]
    assert [task["data"]["image_id"] for task in tasks[3:]] == ["other"]
    assert all(len(task["predictions"]) == 1 for task in tasks)
    ids = [region["id"] for task in tasks for region in task["predictions"][0]["result"]]
    assert len(set(ids)) == len(ids)


def _export(path: Path, *tasks: dict[str, Any]) -> Path:
    path.write_text(json.dumps(tasks, ensure_ascii=False), encoding="utf-8")
    return path


def test_tasks_of_two_exports_with_the_same_ids_keep_their_own_labels(tmp_path: Path) -> None:
    one, other = "https://shop.example/1.png", "https://shop.example/2.png"
    exports = [
        _export(tmp_path / "one.json", {"id": 7, "data": {"image": one}}),
        _export(tmp_path / "other.json", {"id": 7, "data": {"image": other}}),
    ]
    summer: dict[str, FieldValue] = {"caption": CAPTION, "season": ("夏季",)}
    records = [record("2", summer, image=other, task_id=7), record("1", image=one, task_id=7)]
    tasks = _tasks(tmp_path, records, exports=exports)
    seasons = {
        task["data"]["image"]: region["value"]["choices"]
        for task in tasks
        for region in task["predictions"][0]["result"]
        if region["from_name"] == "season"
    }
    assert seasons == {one: ["winter"], other: ["夏季"]}
    ids = [region["id"] for task in tasks for region in task["predictions"][0]["result"]]
    assert len(set(ids)) == len(ids)


def test_a_task_that_two_exports_have_comes_once(tmp_path: Path) -> None:
    url = "https://shop.example/1.png"
    task = {"id": 7, "data": {"image": url}}
    anonymous = [{"data": {"image": url, "sku": sku}} for sku in "ab"]  # one picture, two tasks
    exports = [_export(tmp_path / f"{name}.json", task, *anonymous) for name in ("one", "copy")]
    tasks = _tasks(tmp_path, [record("1", image=url, task_id=7), record("2", image=url)], exports=exports)
    assert [task["data"] for task in tasks] == [{"image": url}, *(task["data"] for task in anonymous)]


@pytest.mark.parametrize(
    ("image", "addresses", "wanted"),
    [
        ("/shop/a b/裙#1.png", Addresses(), "/data/local-files/?d=shop/a%20b/%E8%A3%99%231.png"),
        ("/shop/a.png", Addresses(local_files_root="/shop"), "/data/local-files/?d=a.png"),
        ("/else/a.png", Addresses(local_files_root="/shop"), "/data/local-files/?d=else/a.png"),
        ("/shop/x/a b.png", Addresses("https://s.example/p", ("/shop",)), "https://s.example/p/x/a%20b.png"),
        ("/shop/x/a.png", Addresses("https://s.example/p/", ("/shop", "/shop/x")), "https://s.example/p/a.png"),
        ("https://s.example/a.png?x=1", Addresses("https://other.example"), "https://s.example/a.png?x=1"),
        (os.fsdecode(b"/shop/\xff.png"), Addresses(), "/data/local-files/?d=shop/%FF.png"),
    ],
    ids=[
        "odd name", "below the root", "not below the root", "below an address", "innermost folder", "an address",
        "no text",
    ],
)  # fmt: skip
def test_a_file_gets_an_address_that_label_studio_can_ask_for(image: str, addresses: Addresses, wanted: str) -> None:
    assert addresses.of(image) == wanted


@pytest.mark.parametrize("folders", [(), ("/shop",), ("/else/a",)])
def test_a_picture_below_none_of_the_folders_has_no_address(folders: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=r"/else/a\.png lies in no folder among the SOURCEs"):
        Addresses("https://s.example", folders).of("/else/a.png")


@pytest.mark.parametrize(
    ("images", "addresses"),
    [
        (("/a/p.png", "/b/p.png"), Addresses("https://s.example", ("/a", "/b"))),
        (("https://s.example/p.png", "/a/p.png"), Addresses("https://s.example", ("/a",))),
        (("/shop/else/p.png", "/else/p.png"), Addresses(local_files_root="/shop")),
    ],
    ids=["two folders", "an address and a file", "local files"],
)
def test_two_pictures_with_one_address_are_refused_and_both_are_named(
    tmp_path: Path, images: tuple[str, str], addresses: Addresses
) -> None:
    records = [record(str(number), image=image) for number, image in enumerate(("/a/first.png", *images))]
    with pytest.raises(UsageError, match=f"{images[0]} and {images[1]} are two pictures"):
        _tasks(tmp_path, records, addresses=addresses)
    assert not (tmp_path / "tasks.json").exists()


def test_the_folder_that_holds_both_gives_them_two_addresses(tmp_path: Path) -> None:
    records = [record(folder, image=f"/shop/{folder}/p.png") for folder in "ab"]
    tasks = _tasks(tmp_path, records, addresses=Addresses("https://s.example", ("/shop",)))
    assert [task["data"]["image"] for task in tasks] == ["https://s.example/a/p.png", "https://s.example/b/p.png"]


def test_what_label_studio_would_refuse_is_not_written(tmp_path: Path) -> None:
    other = CONFIG.replace('value="冬季" alias="winter"', 'value="冬季"')
    with pytest.raises(OutputError, match="The record a does not fit the label config"):
        write_label_studio_tasks(
            write_lines(tmp_path / "out.jsonl", [record("a")]),
            tmp_path / "tasks.json",
            schema=SCHEMA,
            label_config=other,
            language="zh",
            addresses=Addresses(),
        )
    assert not (tmp_path / "tasks.json").exists()


def test_records_of_another_label_config_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="other fields"):
        _tasks(tmp_path, [record("a", {"caption": ANSWER["caption"]})], CONFIG.replace("season", "other"))


def test_no_records_are_an_empty_list(tmp_path: Path) -> None:
    assert _tasks(tmp_path, []) == []
