"""Tables as shops and Excel write them: separators, encodings, titles, the column, workbooks, and hostile ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.bulk.left_out import LeftOut
from backend.bulk.lists import ListOptions, read_list
from backend.bulk.sources import check_sources
from backend.errors import UsageError
from tests.backend.bulk.workbooks import workbook

URL = "https://shop.example/a/dress.jpg"
ROWS = [["sku", "image"], ["A", "a.png"], ["B", "b.png"]]


def _images(path: Path, column: str = "", left_out: LeftOut | None = None) -> list[str]:
    """Relative to the table."""
    found = read_list(path, ListOptions("image", column), left_out or LeftOut())
    return [one.image.removeprefix(f"{path.parent}/") for one in found]


def _csv(tmp_path: Path, content: str | bytes, name: str = "list.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("before", ["", "told"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030"])
def test_any_separator_line_end_and_encoding_is_read(
    tmp_path: Path, delimiter: str, end: str, before: str, encoding: str
) -> None:
    (tmp_path / "裙.png").touch()
    lines = [f"sep={delimiter}"] * bool(before) + [delimiter.join(row) for row in (*ROWS, ["丙", "裙.png"])]
    assert _images(_csv(tmp_path, (end.join(lines) + end).encode(encoding))) == ["a.png", "b.png", "裙.png"]


@pytest.mark.parametrize("delimiter", ["^", "~", ":"])
def test_a_first_line_that_says_the_separator_is_believed(tmp_path: Path, delimiter: str) -> None:
    lines = [f"sep={delimiter}", *(delimiter.join(row) for row in ROWS)]
    assert _images(_csv(tmp_path, "\n".join(lines))) == ["a.png", "b.png"]


def test_a_spreadsheet_saved_as_unicode_text_is_a_table(tmp_path: Path) -> None:
    content = "\r\n".join("\t".join(row) for row in ROWS)
    for encoding in ("utf-16", "utf-8"):
        assert _images(_csv(tmp_path, content.encode(encoding), "list.txt")) == ["a.png", "b.png"]
    assert _images(_csv(tmp_path, "三.png\r\n二.png".encode("utf-16"), "list.txt")) == ["三.png", "二.png"]


@pytest.mark.parametrize(
    ("content", "column", "images"),
    [
        ("sku,image\nA,a.png\n", "", ["a.png"]),
        ("sku,主图\nA,a.png\n", "", ["a.png"]),
        ("sku, IMAGE \nA,a.png\n", "", ["a.png"]),
        ("商品导出表,,\n,,\n货号,图片,价格\n1,a.png,9\n", "", ["a.png"]),
        ("url,image\nhttps://shop.example/page,a.png\n", "", ["a.png"]),
        ("sku,Produktbild\nA,a.png\n", "Produktbild", ["a.png"]),
        ("sku,Produktbild\nA,a.png\n", " produktbild ", ["a.png"]),
        ("sku,Produktbild\nA,a.png\n", "2", ["a.png"]),
        ("sku|Produktbild\nA|a.png\n", "2", ["a.png"]),
        ("sku;Produktbild\nA;a.png\n", "Produktbild", ["a.png"]),
        ("A,a.png\nB,b.png\n", "2", ["a.png", "b.png"]),
        (f"A,{URL}\nB,b.png\n", "2", [URL, "b.png"]),
        ("sku,2,3\nA,a.png,b.png\n", "3", ["b.png"]),
        ("image,detail\na.png,b.png\n", "detail", ["b.png"]),
        ("a.png\nb.png\n", "1", ["a.png", "b.png"]),
        ("a.png\n", "", ["a.png"]),
        ("name of it\na.png\n", "", ["a.png"]),
    ],
)  # fmt: skip
def test_the_column_with_the_pictures_is_found(tmp_path: Path, content: str, column: str, images: list[str]) -> None:
    assert _images(_csv(tmp_path, content), column) == images


@pytest.mark.parametrize(
    ("content", "column", "message"),
    [
        ("sku,Produktbild\nA,a.png\n", "", "several columns.*1 sku, 2 Produktbild.*--column TITLE"),
        ("sku|Produktbild\nA|a.png\n", "", "several columns.*1 sku, 2 Produktbild"),
        ("id,type,src\n1,image,a.png\n2,image,b.png\n", "", "several columns.*1 id, 2 type, 3 src"),
        ("id,type,src\n1,image,1001\n2,image,1002\n", "", "several columns.*1 id, 2 type, 3 src"),
        ("1,image,a.png\n2,file,b.png\n", "file", 'no column "file"'),
        ("1,image,a.png\n2,image,b.png\n", "", "several columns"),
        ("sku,image\nA,a.png\n", "photo", 'no column "photo", by title or number.*1 sku, 2 image'),
        ("sku,image\nA,a.png\n", "3", 'no column "3"'),
        ("sku,image\nA,a.png\n", "0", 'no column "0"'),
        ("image,image\na.png,b.png\n", "", "--column 1 or --column 2"),
        ("image\na.png\n" + "x" * (1 << 20), "", "line 3 is no CSV: it has more than"),
        ("image," * 1_000_000 + "\na.png", "", "line 1 is no CSV: it has more than"),
        ('image\n"' + "x\n" * 200_000, "", "is no CSV"),
        ("image\n" + "裙.png\n" * 9 + "\udcff.png\n", "", "not encoded as UTF-8"),
        ("PK\x03\x04 and more", "", "name it .xlsx"),
        ("<html><table><tr><td>image</td></tr></table>", "", "HTML, not CSV.*save it as .xlsx or .csv"),
    ],
    ids=[
        "unknown titles", "unknown titles with bars", "a kind of picture", "a kind of picture without a suffix",
        "a value that is asked for", "a first row that is no title", "no such title", "no such number", "number nought",
        "one title twice", "a cell without end", "a million columns", "an open quotation mark", "no encoding",
        "a workbook", "a web page",
    ],
)  # fmt: skip
def test_a_table_that_is_not_understood_is_refused_with_what_to_do(
    tmp_path: Path, content: str, column: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        _images(_csv(tmp_path, content.encode("utf-8", "surrogateescape")), column)


@pytest.mark.parametrize(
    ("row", "reason", "said"),
    [
        ("B,", "row_without_picture", "line 3"),
        ("B", "row_without_picture", "line 3"),
        ("B,   ", "row_without_picture", "line 3"),
        ('B,"b.png\nC,c.png"', "row_unusable", "lines 3 to 4 (a line break"),
        ('"B\nC\nD",', "row_without_picture", "lines 3 to 5"),
        ("B,data:image/png;base64", "row_unusable", "line 3 (a data: address"),
        ('B,"=DISPIMG(""ID_1"",1)"', "row_unusable", "line 3 (the picture itself is in the cell"),
    ],
)
def test_a_row_that_cannot_be_used_is_left_out_by_its_line_and_the_rest_is_read(
    tmp_path: Path, row: str, reason: str, said: str
) -> None:
    left_out = LeftOut()
    assert _images(_csv(tmp_path, f"sku,image\nA,a.png\n{row}\n\nZ,z.png\n"), "", left_out) == ["a.png", "z.png"]
    (group,) = left_out.groups
    assert (group.reason, group.num) == (reason, 1)
    assert f"list.csv {said}" in group.shown


def test_a_workbook_is_read_as_its_cells_show_it(tmp_path: Path) -> None:
    rows = [
        ["商品表"],
        [None, "货号", "图片"],
        [],
        [None, 1, "a.png"],
        [None, 2, None],
        [None, 3, URL],
        [None, 4, 1001],
    ]
    left_out = LeftOut()
    path = workbook(tmp_path / "list.xlsx", {"S": rows})
    assert _images(path, "", left_out) == ["a.png", URL, "1001"]
    (group,) = left_out.groups
    assert (group.reason, group.examples) == ("row_without_picture", (f"{path} row 5",))
    for column in ("图片", "3"):
        assert _images(path, column) == ["a.png", URL, "1001"]


def test_sheets_that_are_not_read_are_named(tmp_path: Path) -> None:
    sheets = {"old": ROWS, "Products": ROWS, "More": [["image"], ["c.png"]], "Empty": []}
    left_out = LeftOut()
    path = workbook(tmp_path / "list.xlsx", sheets, hidden=["old"])
    assert _images(path, "", left_out) == ["a.png", "b.png"]
    (group,) = left_out.groups
    assert (group.reason, group.examples) == ("other_sheet", (f'{path} sheet "More"',))


CORNERS = '<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
TEXT = '<row r="1"><c r="A1" t="inlineStr"><is><t>image</t></is></c></row><row r="2"><c r="A2" t="inlineStr"><is><t>'


@pytest.mark.parametrize(
    "sheet",
    [CORNERS, TEXT + "x" * 100_000_000 + "</t></is></c></row>", TEXT + "x</t></is></c></row><row"],
    ids=["a cell in each corner", "a cell of 100 MB", "half a sheet"],
)
def test_a_hostile_workbook_ends_in_an_error_of_ours(tmp_path: Path, sheet: str) -> None:
    path = workbook(tmp_path / "list.xlsx", {"S": sheet})
    assert path.stat().st_size < 1_000_000
    with pytest.raises(UsageError, match=r"(save it as \.xlsx or \.csv|Save its sheet as \.csv)") as refused:
        _images(path)
    assert str(path) in str(refused.value)


def test_cells_outside_of_rows_are_no_cells(tmp_path: Path) -> None:
    assert _images(workbook(tmp_path / "list.xlsx", {"S": "<c/>" * 1_000_000})) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"image\na.png\n", b"PK\x03\x04 broken", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), b"<html>"],
)
def test_what_is_called_a_workbook_and_is_none_is_refused_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UsageError, match=r"cannot be read as a workbook .*save it as \.xlsx or \.csv"):
        _images(_csv(tmp_path, content, "list.xlsx"))


@pytest.mark.parametrize("suffix", [".xls", ".XLS", ".xlsb", ".ods", ".numbers", ".et"])
def test_tables_of_other_programs_are_refused_before_anything_starts(tmp_path: Path, suffix: str) -> None:
    path = _csv(tmp_path, "x", f"list{suffix}")
    with pytest.raises(UsageError, match=r"save it as \.xlsx or \.csv"):
        check_sources([str(path)])
