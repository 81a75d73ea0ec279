"""What the tests of bulk runs begin with: folders of pictures, records, and a command line with a fake engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from backend import cli
from backend.bulk import local_run
from backend.bulk.items import Found, Item
from backend.engine.api import Engine
from backend.predict.record import make_record
from backend.settings import Settings
from label_config.answer import Answer, FieldAnswer, FieldValue
from label_config.parse import parse_label_config
from label_config.review import Finding
from label_config.schema import LabelSchema
from tests.backend.images.pictures import png
from tests.backend.serving import ANSWER, CONFIG
from tests.fakes import FakeEngine

SCHEMA = parse_label_config(CONFIG)
VERSION = "garments-nf4-0123456789ab"
FINDING = Finding("low_confidence", "season", "季节：置信度 40%，低于 50%", "season has a confidence of 40%, below 50%")

CHILD = """
import asyncio, sys
from backend import cli
from backend.bulk import local_run
from tests.backend.bulk.answer import ANSWER
from tests.fakes import FakeEngine

class Engine(FakeEngine):
    async def generate(self, request):
        if len(self.requests) >= num_answers:
            await asyncio.Event().wait()
        return await super().generate(request)

num_answers = int(sys.argv.pop(1))
local_run.build_engine = lambda settings: Engine(ANSWER)
cli.main()
"""


def pictures(folder: Path, names: Sequence[str]) -> Path:
    """Each is another picture."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png((16, 12), (number % 256, number // 256 % 256, 7)))
    return folder


def many_pictures(folder: Path, num: int) -> Path:
    return pictures(folder, [f"{number:04}.png" for number in range(num)])


def item(name: str, image: str | None = None) -> Item:
    return Item(name, Found(image or f"/pictures/{name}.png", name, is_file=True))


def record(name: str, values: Mapping[str, FieldValue] = ANSWER, schema: LabelSchema = SCHEMA, **changes: Any) -> Any:
    """A line of an output; `doubt=True` for one that needs review."""
    labels = {field.name for field in schema.fields if field.name != "caption"}
    fields = {key: FieldAnswer(value, 0.75 if key in labels else None) for key, value in values.items()}
    findings = [FINDING] if changes.pop("doubt", False) else []
    made = make_record(schema, Answer(fields), findings, image_id=name, model_version=VERSION)
    return {**made, "image": f"/pictures/{name}.png", **changes}


def failure(name: str, reason: str = "image_corrupt") -> dict[str, Any]:
    return {"image_id": name, "image": f"/pictures/{name}.png", "reason": reason, "message": "It is damaged."}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def write_lines(path: Path, documents: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(d, ensure_ascii=False) + "\n" for d in documents), encoding="utf-8")
    return path


class Here:
    """`prelabel annotate` in this process, with the fake engine `engine`."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], engine: FakeEngine | None = None) -> None:
        self.folder = folder
        self.engine = engine or FakeEngine(ANSWER)
        self.config = folder / "config.xml"
        self.config.write_text(CONFIG, encoding="utf-8")
        self._capsys = capsys

    def build(self, settings: Settings) -> Engine:
        self.engine.status = FakeEngine({}).status  # an earlier run has closed it
        return self.engine

    def run(self, *arguments: str | Path, config: bool = True) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        options = ["--data-dir", str(self.folder / "data"), *(["--label-config", str(self.config)] if config else [])]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(local_run, "build_engine", self.build)
            patch.setattr(sys, "argv", ["prelabel", "annotate", *map(str, arguments), *options])
            patch.setenv("COLUMNS", "160")
            with pytest.raises(SystemExit) as ended:
                cli.main()
        shown = self._capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err


@contextmanager
def running(folder: Path, *arguments: str | Path, num_answers: int) -> Iterator[subprocess.Popen[bytes]]:
    """`prelabel annotate` in a process of its own, whose engine gives so many answers and then none, so that it never
    ends by itself; killed at the end of the block. What it says is in `folder`/said."""
    config = folder / "config.xml"
    config.write_text(CONFIG, encoding="utf-8")
    command = [sys.executable, "-c", CHILD, str(num_answers), "annotate", *map(str, arguments)]
    command += ["--label-config", str(config), "--data-dir", str(folder / "data"), "--workers", "4"]
    with (folder / "said").open("wb") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        try:
            yield process
        finally:
            process.kill()


def annotate(folder: Path, *options: str, model: str = "garments") -> subprocess.CompletedProcess[str]:
    """`prelabel annotate` of what is in `folder`/pictures, in a process of its own."""
    command = [sys.executable, "-c", "from backend.cli import main; main()", "annotate", "pictures", "-o", "out.jsonl"]
    return subprocess.run(
        [*command, "--model", model, "--data-dir", "data", *options],
        cwd=folder,
        env={**os.environ, "PRELABEL_DEVICE": "cpu", "PYTHONPATH": str(Path(__file__).parents[3]), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
    )
