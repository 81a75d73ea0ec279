"""Which column of a table has the pictures, and which of its first rows are titles. Raises UsageError."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.bulk.addresses import is_url
from backend.errors import UsageError

KEYS = (
    "image", "picture", "image_path", "image_url", "picture_url", "image src", "img", "img_url", "main_image",
    "图片", "图片路径", "图片地址", "图片链接", "图片url", "图片文件", "图片文件名", "图像",
    "主图", "主图链接", "主图地址", "商品图片",
    "path", "url", "file", "filename", "file_name", "file_path", "路径", "文件路径", "文件名",
)  # fmt: skip
"""Titles of a column with pictures; the first of these that is there is taken."""
HEAD_ROWS = 10
"""A title may stand below a few lines that say what the table is."""
_PICTURE = re.compile(r"\.(jpe?g|png|webp|gif|bmp|tiff?|avif|hei[cf])\b", re.IGNORECASE)
_MAX_TITLES = 30
_TITLE_CHARS = 40


@dataclass(frozen=True, slots=True)
class Column:
    """`index` from 0. The first `num_titles` rows are none of the list's."""

    index: int
    num_titles: int


Row = Sequence[str]


def titled_column(path: Path, head: Sequence[Row], wanted: str) -> Column | None:
    """The column titled `wanted`, or with one of KEYS if it is ""; None if no row of `head` has such a title.

    Titles may stand below lines that say what the table is. Those are shorter; else it is a row like any other, and
    "image" in it is what it says of something.
    """
    keys = [wanted.strip().casefold()] if wanted else KEYS
    longest = 0
    for number, row in enumerate(head, 1):
        names = [name.casefold() for name in row]
        num_filled = sum(map(bool, row))
        if any(is_url(cell) or _PICTURE.search(cell) for cell in row):
            return None
        if num_filled > longest and (key := next((key for key in keys if key in names), None)):
            if names.count(key) > 1:
                places = " or ".join(f"--column {place}" for place, name in enumerate(names, 1) if name == key)
                raise UsageError(f'{path} has several columns titled "{key}". Say which one is meant: {places}.')
            return Column(names.index(key), number)
        longest = max(longest, num_filled)
    return None


def numbered_column(head: Sequence[Row], wanted: str, is_there: Callable[[str], bool]) -> Column | None:
    """The column whose number, from 1, is `wanted`; None if there is none."""
    index = int(wanted) - 1 if wanted.isdecimal() else -1
    if not 0 <= index < max(map(len, head)):
        return None
    for number, row in enumerate(head, 1):
        if index < len(row) and (cell := row[index]):
            return Column(index, number - 1 if is_picture(cell, is_there) else number)
    return Column(index, 0)


def only_column(head: Sequence[Row], is_there: Callable[[str], bool]) -> Column:
    """Of a table without separators."""
    index, cell = next((index, cell) for index, cell in enumerate(head[0]) if cell)
    return Column(index, 0 if is_picture(cell, is_there) else 1)


def refuse(path: Path, head: Sequence[Row], wanted: str) -> UsageError:
    """For a table of which it is not known which column is meant."""
    if wanted:
        return UsageError(f'{path} has no column "{wanted}", by title or number, as --column asks for.{_titles(head)}')
    return UsageError(
        f"{path} has several columns, and its first row does not say which one has the pictures.{_titles(head)} "
        "Name it with --column TITLE or --column NUMBER, or give it the title image or 图片."
    )


def _titles(head: Sequence[Row]) -> str:
    shown = [f"{number} {title[:_TITLE_CHARS]}".strip() for number, title in enumerate(head[0][:_MAX_TITLES], 1)]
    return f" Its columns: {', '.join(shown)}{', ...' if len(head[0]) > _MAX_TITLES else ''}."


def is_picture(cell: str, is_there: Callable[[str], bool]) -> bool:
    """Whether it is no title."""
    return is_url(cell) or cell.startswith("//") or os.path.splitext(cell)[1] != "" or is_there(cell)
