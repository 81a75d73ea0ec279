"""Lists of pictures, and Label Studio's export."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from backend.bulk.items import Found
from backend.bulk.left_out import LeftOut
from backend.bulk.lists import ListOptions, read_list
from backend.errors import UsageError

URL = "https://shop.example/a/dress.jpg"


def _write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _read(path: Path, left_out: LeftOut | None = None) -> list[Found]:
    return list(read_list(path, ListOptions("image"), left_out or LeftOut()))


def _images(path: Path) -> list[str]:
    return [found.image for found in _read(path)]


def _lines(*documents: object) -> str:
    return "".join(json.dumps(document) + "\n" for document in documents)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.txt", f"\n{URL}\n  sub/a b.png \r\n/abs/裙.png"),
        ("list.csv", f"sku,Image\n1,{URL}\n2,sub/a b.png\n\n3,/abs/裙.png\n"),
        ("list.csv", f"{URL}\nsub/a b.png\n/abs/裙.png\n"),
        ("list.csv", f"name of the picture\n{URL}\nsub/a b.png\n/abs/裙.png\n"),
        ("list.csv", f"货号;图片路径\n1;{URL}\n2;sub/a b.png\n;;\n3;/abs/裙.png\n"),
        ("list.csv", f"sku\tfile_name\n1\t{URL}\n2\tsub/a b.png\n3\t/abs/裙.png\n"),
        ("list.jsonl", _lines({"image": URL}, {"path": "sub/a b.png"}, "/abs/裙.png")),
    ],
    ids=[
        "text", "CSV by title", "CSV without titles", "CSV of one column with another title", "CSV with semicolons",
        "CSV with tabs", "JSON lines",
    ],
)  # fmt: skip
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "with a mark"])
def test_paths_are_relative_to_the_list_and_addresses_are_kept(
    tmp_path: Path, name: str, content: str, mark: bytes
) -> None:
    path = _write(tmp_path / name, mark + content.encode())
    if mark and name.endswith("jsonl"):
        path.write_bytes(content.encode())  # no program marks those
    assert _images(path) == [URL, str(tmp_path / "sub" / "a b.png"), "/abs/裙.png"]


@pytest.mark.parametrize("name", ["list.txt", "list.csv", "list.jsonl"])
def test_an_address_without_a_scheme_is_an_address_and_a_path_that_begins_so_is_a_path(
    tmp_path: Path, name: str
) -> None:
    written = ["//img.alicdn.com/a.jpg", "https:\\\\a.example\\b.jpg", "//mnt/a.jpg", "HTTP://a.example/c.jpg"]
    content = _lines(*({"image": text} for text in written)) if name.endswith("jsonl") else "\n".join(written)
    assert _images(_write(tmp_path / name, content)) == [written[0], written[1], "/mnt/a.jpg", written[3]]


def test_a_list_can_name_what_failed(tmp_path: Path) -> None:
    line = {"image_id": "a", "image": "/pictures/a.png", "reason": "image_corrupt", "message": "It is damaged."}
    assert _images(_write(tmp_path / "out.failed.jsonl", _lines(line))) == ["/pictures/a.png"]


EXPORT = [
    {"id": 7, "data": {"image": URL, "sku": "1"}, "annotations": [{"result": []}]},
    {"id": 8, "data": {"image": "/data/upload/3/ab12-dress.png"}},
    {"id": 9, "data": {"image": "/data/local-files/?d=shop/%E8%A3%99.png"}},
    {"id": 10, "data": {"sku": "no picture"}},
    {"data": {"image": "s3://bucket/x.jpg"}},
    {"id": 12, "data": {"image": "data:image/png;base64,AAAA"}},
]


def test_an_export_gives_its_tasks_with_their_ids(tmp_path: Path) -> None:
    found = _read(_write(tmp_path / "export.json", json.dumps(EXPORT)))
    assert [(f.task_id, f.stem, f.is_file) for f in found] == [
        (7, "dress", False),
        (8, "ab12-dress", False),
        (9, "裙", False),
        (10, "task-10", False),
        (None, "x", False),
        (12, "image", False),
    ]
    assert found[3].image == ""
    assert found[5].image.startswith("data:sha256-")
    assert found[5].location == "data:image/png;base64,AAAA"
    assert len({f.identity for f in found}) == len(found)


def test_an_export_in_label_studios_short_form_is_read_too(tmp_path: Path) -> None:
    (found,) = _read(_write(tmp_path / "min.json", json.dumps([{"id": 3, "image": URL, "choice": "x"}])))
    assert (found.task_id, found.image) == (3, URL)


def test_two_tasks_with_one_picture_are_two(tmp_path: Path) -> None:
    tasks = [{"id": number, "data": {"image": URL}} for number in (1, 2)]
    found = _read(_write(tmp_path / "export.json", json.dumps(tasks)))
    assert len({f.identity for f in found}) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.csv", 'image\n"' + "x" * 200_000, "line .* is no CSV"),
        ("list.csv", "sku,Produktbild\n1,a.png\n", "several columns.*title image or 图片"),
        ("list.csv", "1;a.png\n2;b.png\n", "several columns"),
        ("list.csv", "货号,图片\n1,毛衣.png\n".encode("gbk"), "Save it again as CSV UTF-8"),
        ("export.json", '{"tasks": []}', "no list of tasks"),
        ("export.json", '[{"id": 1, "data": {"image": "x"}}, {', "breaks off"),
        ("export.json", "[3]", "no task of Label Studio"),
        ("export.json", "", "no list of tasks"),
        ("export.json", b"[\xff\xfe]", "is no JSON"),
    ],
    ids=[
        "CSV without end", "CSV with titles we do not know", "CSV of ids", "CSV whose names are nowhere in GBK",
        "no list", "half an export", "no task", "an empty file", "no text",
    ],
)  # fmt: skip
def test_a_list_that_is_wrong_is_refused_with_the_place(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        _read(_write(tmp_path / name, content))


def test_a_list_is_read_as_it_goes(tmp_path: Path) -> None:
    """A list of any length costs no memory: the first pictures are there before the end is looked at."""
    path = _write(tmp_path / "list.jsonl", _lines(*[{"image": "a.png"}] * 10_000) + "no JSON")
    left_out = LeftOut()
    reader = read_list(path, ListOptions("image"), left_out)
    assert next(reader).stem == "a"
    assert not left_out.groups
    assert len(list(reader)) == 9_999
    assert "line 10001 (no JSON)" in left_out.groups[0].shown


@pytest.mark.parametrize(
    ("name", "content", "reason", "said"),
    [
        ("list.jsonl", '"a.png"\n"\\ud800.png"\n"b.png"', "row_unusable", "line 2 (half of a surrogate pair)"),
        ("list.jsonl", '"a.png"\n"\\u0000b.png"\n"b.png"', "row_unusable", "line 2 (no path: it holds a NUL"),
        ("list.txt", "a.png\n" + "x/" * 2_100 + "\nb.png", "row_unusable", "line 2 (no path: it holds a NUL"),
        ("list.jsonl", '{"image": "a.png"}\n{"ima\n"b.png"', "row_unusable", "line 2 (no JSON)"),
        ("list.jsonl", '"a.png"\n{"sku": 1}\n"b.png"', "row_unusable", "line 2 (it needs one of the keys image,"),
        ("list.jsonl", '"a.png"\n' + "[" * 100_000 + '\n"b.png"', "row_unusable", "line 2 (no JSON)"),
        ("list.jsonl", '"a.png"\n{"image": " "}\n"b.png"', "row_without_picture", "line 2"),
        ("list.jsonl", '"a.png"\n{"image": 7}\n"b.png"', "row_unusable", "line 2 (its picture is no text)"),
        ("list.csv", "sku,image\n1,a.png\n2,\n3,b.png", "row_without_picture", "line 3"),
        ("list.csv", "sku,image\n1,a.png\n2\n3,b.png", "row_without_picture", "line 3"),
        ("list.txt", b"a.png\n\xff\xff.png\nb.png", "row_unusable", "line 2 (not encoded as UTF-8)"),
        ("list.txt", "a.png\ndata:image/png;base64,AAAA\nb.png", "row_unusable", "line 2 (a data: address"),
        ("e.json", '[{"image": "s3://a/a.png"}, {"data": {}}, {"image": "b.png"}]', "row_unusable", "task 2 (neither"),
    ],
)  # fmt: skip
def test_a_line_that_cannot_be_used_is_left_out_by_its_number_and_the_rest_is_read(
    tmp_path: Path, name: str, content: str | bytes, reason: str, said: str
) -> None:
    left_out = LeftOut()
    assert [found.stem for found in _read(_write(tmp_path / name, content), left_out)] == ["a", "b"]
    (group,) = left_out.groups
    assert (group.reason, group.num, group.is_lost) == (reason, 1, True)
    assert said in group.shown


def test_an_empty_list_is_no_error(tmp_path: Path) -> None:
    make: dict[str, Callable[[], str]] = {"a.txt": str, "a.csv": str, "a.jsonl": str, "a.json": lambda: "[]"}
    assert [_read(_write(tmp_path / name, content())) for name, content in make.items()] == [[], [], [], []]


def test_a_first_picture_without_a_suffix_is_no_title(tmp_path: Path) -> None:
    (tmp_path / "0001").write_bytes(b"")
    path = _write(tmp_path / "list.csv", "0001\n0002\n")
    assert _images(path) == [str(tmp_path / "0001"), str(tmp_path / "0002")]


def test_a_text_list_as_a_chinese_windows_saves_it_is_read(tmp_path: Path) -> None:
    path = _write(tmp_path / "list.txt", "毛衣.png\r\nb.png\r\n连衣裙/1.png\r\n".encode("gbk"))
    assert _images(path) == [str(tmp_path / name) for name in ("毛衣.png", "b.png", "连衣裙/1.png")]


def test_a_file_whose_name_is_no_text_can_be_named(tmp_path: Path) -> None:
    name = os.fsdecode("毛衣.png".encode("gbk"))
    (tmp_path / name).write_bytes(b"")
    assert _images(_write(tmp_path / "list.txt", "毛衣.png\n".encode("gbk"))) == [str(tmp_path / name)]


def test_a_csv_as_chinese_excel_saves_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "连衣裙.png").write_bytes(b"")
    path = _write(tmp_path / "list.csv", "货号,图片\r\n1,毛衣.png\r\n2,连衣裙.png\r\n".encode("gbk"))
    assert _images(path) == [str(tmp_path / "毛衣.png"), str(tmp_path / "连衣裙.png")]


@pytest.mark.parametrize("titles", ["图片", "sku,图片"])
def test_words_that_are_valid_in_both_encodings_are_read_in_the_one_that_makes_sense(
    tmp_path: Path, titles: str
) -> None:
    """These two characters of GBK happen to be two others in UTF-8."""
    (tmp_path / "裙.png").write_bytes(b"")
    row = "裙.png" if titles == "图片" else "1,裙.png"
    for encoding in ("gbk", "utf-8", "utf-8-sig"):
        assert _images(_write(tmp_path / "list.csv", f"{titles}\n{row}\n".encode(encoding))) == [
            str(tmp_path / "裙.png")
        ]


def test_another_encoding_beside_names_that_need_none_does_no_harm(tmp_path: Path) -> None:
    path = _write(tmp_path / "list.csv", f"品名,url\n裙子,{URL}\n".encode("gbk"))
    assert _images(path) == [URL]


def test_a_title_picks_the_separator_even_where_others_are_more_frequent(tmp_path: Path) -> None:
    path = _write(tmp_path / "list.csv", "image\na;b;c.png\n")
    assert _images(path) == [str(tmp_path / "a;b;c.png")]
