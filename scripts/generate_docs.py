#!/usr/bin/env python3
"""Write the parts of the documentation that are made from the code: the settings, the control tags, what to
do about each reason of a failure, what common cards do and the models need.

Each part stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`. `--check` only says whether all are current.
"""

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import Path
from typing import Literal

from card_table import cards_table, models_table  # beside this file, which is run as a program

from backend.reasons import SECTIONS
from backend.settings import settings_table
from label_config.controls import supported_tags

ROOT = Path(__file__).parents[1]


def tags_table() -> str:
    rows = ["| control tag | becomes | attributes read besides name, toName, required, hint |", "|---|---|---|"]
    rows += [f"| `<{t.tag}>` | {t.becomes} | {', '.join(f'`{a}`' for a in t.attributes)} |" for t in supported_tags()]
    return "\n".join(rows) + "\n"


def reasons_tables(language: Literal["zh", "en"]) -> str:
    is_chinese = language == "zh"
    head = "| 原因 | 意思 | 怎么办 |" if is_chinese else "| reason | means | what to do |"
    parts = []
    for in_chinese, in_english, rows in SECTIONS:
        parts.append(f"\n## {in_chinese if is_chinese else in_english}\n\n{head}\n|---|---|---|\n")
        for row in rows:
            means, do = (row.means_zh, row.do_zh) if is_chinese else (row.means_en, row.do_en)
            parts.append(f"| `{row.reason}` | {_cell(means)} | {_cell(do)} |\n")
    return "".join(parts) + "\n"


def _cell(text: str) -> str:
    """Names in capitals and tags as code; a bar is no border."""
    return re.sub(r"\b[A-Z]+(?:_[A-Z]+)+\b|<\w+>", r"`\g<0>`", text).replace("|", "\\|")


# file, name of the part, what makes it
PARTS = (
    ("docs/settings.md", "settings", settings_table),
    ("docs/label-configs.md", "tags", tags_table),
    ("docs/cards.md", "cards", cards_table),
    ("docs/cards.md", "models", models_table),
    ("docs/troubleshooting.md", "reasons", partial(reasons_tables, "en")),
    ("docs/troubleshooting.zh.md", "reasons", partial(reasons_tables, "zh")),
)


def replaced(text: str, name: str, part: str) -> str:
    """`text` with `part` between the markers of that name. Raises ValueError where they are not there once."""
    begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"{begin.strip()} and {end} must stand there once")
    return pattern.sub(lambda _: begin + part + end, text)


def main() -> int:
    code = 0
    for file, name, make in PARTS:
        path = ROOT / file
        text = path.read_text(encoding="utf-8")
        current = replaced(text, name, make())
        if text == current:
            continue
        if "--check" in sys.argv:
            print(f"{file} is out of date: run .venv/bin/python scripts/generate_docs.py", file=sys.stderr)
            code = 1
        else:
            path.write_text(current, encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
