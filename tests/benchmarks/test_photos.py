"""`benchmarks.photos` on its smallest photo."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import photos


def test_the_smallest_photo_is_measured_and_seen_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    assert photos.main(["--small", "--json", str(path)]) == 0
    parts = json.loads(path.read_text("utf-8"))["parts"]
    assert parts["cost"]["figures"]["1.5 MP, 256 image tokens: decoded as it is"]["unit"] == "ms"
    assert parts["sameness"]["figures"]["1.5 MP, 256 image tokens: as it is, mean"]["value"] < 1
