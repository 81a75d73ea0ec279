"""Names and captions by somebody who wishes the reader ill: no cell of a table is a formula, no record is two lines."""

from __future__ import annotations

import csv
import io
import json
import random
import tempfile
import unicodedata
from pathlib import Path

import pytest

from backend.bulk.exports.csv import write_csv
from backend.bulk.files import json_line
from tests.backend.bulk.given import SCHEMA, record, write_lines
from tests.limits import seeds

SIGNS = [*"=+-@", *"＝＋－＠﹦﹢﹣﹫"]
BLANKS = [
    *" \t\n\r\v\f\0\x1b\x1c\x1f\x7f\x85\xa0\xad\u1680\u2000\u2007\u200b\u200d\u200e",
    *"\u2028\u2029\u202e\u202f\u2060\u3000\ufeff",
]
EMPTY = [*"\u034f\u115f\u1160\u17b4\u17b5\u180b\u180f\u2800\u3164\ufe00\ufe0f\uffa0"]
READERS = [",", ";", "\t", "|"]
LINE_ENDS = [*"\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029"]


def write(text: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        records = write_lines(
            Path(folder, "out.jsonl"), [record("a", image_id=text, caption=text, image=text, tags=[text, text])]
        )
        write_csv(records, Path(folder, "out.csv"), SCHEMA)
        return Path(folder, "out.csv").read_bytes().decode("utf-8-sig")


def is_formula(cell: str) -> bool:
    """By the reader that passes over most: anything invisible, and quotes."""
    seen = "".join(char for char in cell if unicodedata.category(char)[0] not in "ZC" and char not in ['"', *EMPTY])
    return unicodedata.normalize("NFKC", seen)[:1] in set("=+-@")


def formulas(text: str) -> list[str]:
    """Cells of the file that are one for a reader with any separator, whether it ends a line at each break or not."""
    content = write(text)
    found = [
        cell
        for reader in READERS
        for row in csv.reader(io.StringIO(content, newline=""), delimiter=reader)
        for cell in row
    ]
    found += [cell for line in content.splitlines() for reader in READERS[1:] for cell in line.split(reader)]
    return [cell for cell in found if is_formula(cell)]


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize(
    "before", ["", "x;", "x|", "x\n", 'x;"', "x;\u3000", "\ufeff", "\u3000", " \u200b ", "x\t\ufeff", *EMPTY], ids=ascii
)
def test_no_text_is_a_formula_for_any_reader(before: str, sign: str) -> None:
    assert formulas(f"{before}{sign}1+1") == []


@pytest.mark.parametrize("blank", BLANKS, ids=ascii)
def test_no_blank_hides_a_formula(blank: str) -> None:
    assert formulas(f"{blank}=1+1") == formulas(f"x;{blank}{blank}=1+1") == []


@pytest.mark.parametrize("seed", seeds(2, 60))
def test_no_mixture_of_them_is_a_formula(seed: int) -> None:
    rng = random.Random(seed)
    parts = [*SIGNS, *BLANKS, *READERS, *"\"'xy1", "cmd|' /C calc'!A0"]
    for _ in range(60):
        text = "".join(rng.choices(parts, k=rng.randrange(1, 12)))
        assert formulas(text) == [], ascii(text)


@pytest.mark.parametrize("text", ["red; blue", "a, -5", "size=3", "连衣裙；短袖", "x-y", "1+1", "a@b.example", "'=1"])
def test_an_ordinary_text_is_written_as_it_is(text: str) -> None:
    assert next(csv.DictReader(io.StringIO(write(text), newline="")))["caption"] == text


@pytest.mark.parametrize("end", LINE_ENDS, ids=ascii)
def test_a_record_is_one_line_for_every_reader_and_comes_back(end: str) -> None:
    document = {"image_id": f"a{end}{{}}", f"k{end}": [f"裙{end}", end, "\ud83d"]}
    for given in (document, {key: value for key, value in document.items() if key == "image_id"}):
        line = json_line(given)
        assert line.endswith(b"\n")
        assert len(line.decode().splitlines()) == 1
        assert json.loads(line) == given
