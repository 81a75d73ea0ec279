"""Exports that are nested to take all memory are refused before they do; what only looks so is not."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.bulk.json_depth import MAX_DEPTH, ShallowFile
from backend.bulk.left_out import LeftOut
from backend.bulk.lists import ListOptions, read_entries, read_list
from backend.errors import UsageError

DEEP = {
    "lists": b"[" * 100_000,
    "objects": b'[{"a":' + b'{"a":' * 100_000,
    "after a task": b'[{"data": {"image": "a"}}, {"annotations": ' + b"[" * 100_000,
    "after texts": rb'[{"a": "]]]\"]}}\\", "' + b"]" * 70_000 + b'": ' + b"[" * 100_000,
}


@pytest.mark.parametrize("content", DEEP.values(), ids=DEEP.keys())
def test_an_export_that_is_nested_without_end_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "export.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="nested deeper than 200 levels"):
        list(read_entries(path))
    with pytest.raises(UsageError, match="nested deeper than 200 levels"):
        list(read_list(path, ListOptions("image"), LeftOut()))


def _nested(depth: int) -> object:
    value: object = "["
    for n in range(depth):
        value = [value, "[{"] if n % 2 else {"{[": value}
    return value


def _looked_through(content: bytes, size: int) -> bytes:
    file = ShallowFile(io.BytesIO(content), Path("a.json"))
    return b"".join(iter(lambda: file.read(size), b""))


TEXTS = st.text('a"\\[]{}\n')
VALUES = st.recursive(TEXTS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner))


@given(value=VALUES, size=st.integers(1, 9))
def test_texts_are_no_brackets_wherever_the_file_is_cut(value: object, size: int) -> None:
    for nested, is_refused in ((MAX_DEPTH - 60, False), (MAX_DEPTH + 1, True)):
        content = json.dumps([value, "[" * 500, _nested(nested)]).encode()
        if is_refused:
            with pytest.raises(UsageError):
                _looked_through(content, size)
        else:
            assert _looked_through(content, size) == content
