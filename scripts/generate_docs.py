#!/usr/bin/env python3
"""Write the generated parts of README.md: the settings table and the table of control tags.

Each part stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`. `--check` only says whether README is current.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from backend.settings import settings_table
from label_config import supported_tags

README = Path(__file__).parents[1] / "README.md"


def tags_table() -> str:
    rows = ["| control tag | becomes | attributes read besides name, toName, required, hint |", "|---|---|---|"]
    rows += [f"| `<{t.tag}>` | {t.becomes} | {', '.join(f'`{a}`' for a in t.attributes)} |" for t in supported_tags()]
    return "\n".join(rows) + "\n"


PARTS = {"settings": settings_table, "tags": tags_table}


def generated(text: str) -> str:
    """Return `text` with every part written anew. Raises ValueError when a part's markers are missing."""
    for name, make in PARTS.items():
        begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"README.md needs {begin.strip()} and {end} once")
        part = begin + make() + end
        text = pattern.sub(lambda _, part=part: part, text)
    if left := re.findall(r"^[A-Z]+_[A-Z]+$", text, re.MULTILINE):
        raise ValueError(f"README.md was never given its {left[0]}")
    return text


def main() -> int:
    text = README.read_text(encoding="utf-8")
    current = generated(text)
    if "--check" in sys.argv:
        if text != current:
            print("README.md is out of date: run .venv/bin/python scripts/generate_docs.py", file=sys.stderr)
        return int(text != current)
    README.write_text(current, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
