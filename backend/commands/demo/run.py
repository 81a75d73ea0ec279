"""`prelabel demo`: a Label Studio and a backend on this machine, the bundled pictures imported and pre-filled.

Everything goes the way a user's own project goes: real uploads, `prelabel serve` as its own process, predictions
fetched by Label Studio's own action. Both servers listen on loopback only and end with this command; what they wrote
goes with them unless something failed or --data-dir was given. Raises PrelabelError; every wait has a limit.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from rich.console import Console

from backend.commands.connect_project import connect_project, done
from backend.commands.demo.background_process import BackgroundProcess
from backend.commands.demo.fill import DEADLINE_S, fill
from backend.commands.demo.local_backend import LocalBackend, running_backend
from backend.commands.demo.local_label_studio import LocalLabelStudio, find_label_studio, running_label_studio
from backend.commands.demo.quality import show_quality
from backend.commands.demo.report import read_filled_tasks, report
from backend.label_studio.client import LabelStudioClient
from backend.pages.numbers import number
from backend.predict.label_configs import parse_or_refuse, read_label_config

CONFIG = "garments.zh"
TITLE = "prelabel demo"
PICTURES = Path(__file__).resolve().parents[3] / "model_loader" / "garments" / "pictures"
STOPPED = 130
_TABLE_WIDTH = 150  # where the output is no terminal
_WATCH_S = 1.0


def demo(*, check: bool, data_dir: Path | None = None, label_studio: Path | None = None) -> int:
    """Return 0 if every task was pre-filled, else 1; 130 if stopped before. Without `check`, serve until Ctrl-C."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _TABLE_WIDTH)
    program = find_label_studio(label_studio)
    with _end_in_order(), _folder(data_dir) as folder:
        planned = LocalLabelStudio.planned(folder)
        try:
            settings = {
                "LABEL_STUDIO_URL": planned.url,
                "LABEL_STUDIO_API_KEY": planned.api_key,
                "PRELABEL_DEVICE": "cpu",  # the card may be another prelabel's, and the small model needs none
                "PRELABEL_PREDICT_DEADLINE_S": str(DEADLINE_S),
                "PRELABEL_PRICE_PER_MINUTE": "0.06",
            }
            with running_backend(folder, settings) as backend:
                console.print(f"Starting Label Studio and the backend (logs in {folder}); this takes up to a minute …")
                with running_label_studio(program, planned) as server:
                    return _run(console, planned, server, backend, check, folder)
        except KeyboardInterrupt:
            console.print("\nStopped before every task was filled.")
            return STOPPED


def _run(
    console: Console,
    access: LocalLabelStudio,
    server: BackgroundProcess,
    backend: LocalBackend,
    check: bool,
    folder: Path,
) -> int:
    done(console, f"Label Studio answers at {access.url}")
    backend.wait_until_ready()
    done(console, f"The backend answers at {backend.url}, its model is loaded")
    with LabelStudioClient(access.url, access.api_key) as client:
        project = client.create_project(TITLE, read_label_config(CONFIG))
        note = connect_project(client, console, project, backend.url, None)
        if note:
            console.print(note)
        pictures = sorted(p for p in PICTURES.iterdir() if p.suffix in (".png", ".jpg"))
        client.upload_files(project.id, pictures)
        done(console, f"{number(len(pictures)):picture|pictures} imported")
        fill(client, console, project, backend)
        tasks = read_filled_tasks(client, project)
    schema = parse_or_refuse(project.label_config)
    filled = report(console, schema, tasks, _true_categories())
    page = folder / "quality.html"
    show_quality(console, schema, tasks, _true_categories(), PICTURES, page)
    console.print(
        f"\nOpen    {access.url}/projects/{project.id}/data\nLogin   {access.username}   password  {access.password}\n"
        f"Status  {backend.url}/status?lang=en\nQuality {page.as_uri()}\n",
        soft_wrap=True,
    )
    if not check:
        console.print("Ctrl-C ends the demo.")
        with contextlib.suppress(KeyboardInterrupt):
            _watch((server, backend.process))
        console.print("\nStopped.")
    if not filled:
        raise backend.process.failed("left tasks without a prediction")
    return 0


def _true_categories() -> dict[str, str]:
    """The leaf of each bundled picture's category: what Fashion-MNIST says it shows, in the words of the config."""
    known = json.loads((PICTURES / "labels.json").read_text(encoding="utf-8"))
    return {file: entry["category"] for file, entry in known.items()}


def _watch(processes: tuple[BackgroundProcess, ...]) -> None:
    """Return never; raises ProcessFailed when a server ends by itself."""
    while True:
        for process in processes:
            if not process.running:
                raise process.failed("ended by itself")
        time.sleep(_WATCH_S)


@contextlib.contextmanager
def _folder(data_dir: Path | None) -> Iterator[Path]:
    """A folder only this user can read: removed after a demo that went well, kept where something failed."""
    if data_dir:
        data_dir.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="prelabel-demo-", dir=data_dir)).resolve()
    yield folder
    if data_dir is None:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _end_in_order() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C, so that both servers are ended then, too."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
