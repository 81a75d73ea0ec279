"""A run of `prelabel annotate` with the embedded model, and what it has written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.limits import RUN_S

CONFIG = "garments.zh"
BOOT, BAG = "新品/靴子 1 #热卖 100%.png", "新品/包 👜.png"
NAMES = {"ankle-boot-00000.png": BOOT, "bag-00018.png": BAG}
DOUBTED = "t-shirt-top-00027"
FILES = (
    *NAMES, f"{DOUBTED}.png", "coat-00006.png", "dress-00013.png", "sandal-00008.png", "shirt-00007.png",
    "sneaker-00009.png",
)  # fmt: skip


def fill(folder: Path, pictures: list[Path]) -> None:
    """Eight pictures, two of them in a folder below, with names that an address cannot have as they are, and a file
    that is no picture."""
    for picture in (picture for picture in pictures if picture.name in FILES):
        target = folder / NAMES.get(picture.name, picture.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(picture.read_bytes())
    (folder / "notes.jpg").write_text("no picture")


@dataclass(frozen=True)
class Annotated:
    """The records, and the other files that were asked for."""

    records: list[dict[str, Any]]
    import_file: Path
    report: Path

    @property
    def tasks(self) -> list[dict[str, Any]]:
        tasks: list[dict[str, Any]] = json.loads(self.import_file.read_text(encoding="utf-8"))
        return tasks

    @property
    def model_version(self) -> str:
        [version] = {record["model_version"] for record in self.records}
        return str(version)


def annotate(source: Path, *options: str, exit_code: int = 0, **environment: str) -> Annotated:
    """`prelabel annotate source`; the files are written beside `source`."""
    beside = source.parent
    command = [sys.executable, "-c", "from backend.cli import main; main()", "annotate", source.name]
    command += ["--output", "out.jsonl", "--label-studio-tasks", "tasks.json", "--report", "report.html"]
    command += ["--label-config", CONFIG, "--model", "garments", "--data-dir", "data", "--language", "zh", *options]
    env = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    ended = subprocess.run(
        command, cwd=beside, env={**os.environ, **env, **environment}, capture_output=True, text=True, timeout=RUN_S
    )
    assert ended.returncode == exit_code, ended.stderr
    records = [json.loads(line) for line in (beside / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    return Annotated(records, beside / "tasks.json", beside / "report.html")


class Served(SimpleHTTPRequestHandler):
    """A folder as a static web server serves it that allows other sites its pictures, as Label Studio's page needs."""

    def end_headers(self) -> None:
        self.send_header("Access-Control-Allow-Origin", "*")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass
