"""A Label Studio of our own on this machine, for the demo and the end-to-end tests.

It listens on 127.0.0.1 only, keeps everything in the folder it is given (SQLite, uploads), sends no analytics, and
allows what a server for other people would not: an ML backend on a loopback address, and legacy tokens.
Raises ProcessFailed when it cannot be started, LabelStudioMissing when it is not installed.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from backend.commands.demo.background_process import BackgroundProcess, free_port
from backend.commands.demo.empty_database import keep_empty_database, kept_for, place_empty_database
from backend.errors import PrelabelError

START_S = 600.0  # ends only what will never answer; on a busy small machine a start takes minutes
PATIENCE_S = "60"
USERNAME = "prelabel@example.com"
_DATA = "label-studio"
_DATABASE = "label_studio.sqlite3"


class LabelStudioMissing(PrelabelError):
    """The `label-studio` program was not found; the message says how to install it."""


@dataclass(frozen=True, slots=True)
class LocalLabelStudio:
    """Where it is, or will be, and how to get in. `api_key` is a legacy token."""

    port: int
    username: str
    password: str
    api_key: str
    data_dir: Path

    @classmethod
    def planned(cls, data_dir: Path) -> Self:
        """One on a free port with credentials of its own, not yet started."""
        return cls(free_port(), USERNAME, secrets.token_urlsafe(9), secrets.token_hex(20), data_dir)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        return self.data_dir / "label-studio.log"

    def environment(self, program: Path) -> dict[str, str]:
        return _environment(program, self.data_dir) | {
            "LABEL_STUDIO_HOST": self.url,
            # In the environment, not on the command line, which every user of the machine can read.
            "LABEL_STUDIO_USERNAME": self.username,
            "LABEL_STUDIO_PASSWORD": self.password,
            "LABEL_STUDIO_USER_TOKEN": self.api_key,
            "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
            # Both are needed before Label Studio talks to a backend on a private address.
            "USE_DEFAULT_BANNED_SUBNETS": "false",
            "ML_BLOCK_LOCAL_IP": "false",
            # Of its own accord it takes a backend for dead that a busy machine holds up for a second.
            "ML_CONNECTION_TIMEOUT": PATIENCE_S,
            "ML_TIMEOUT_HEALTH": PATIENCE_S,
            "ML_TIMEOUT_SETUP": PATIENCE_S,
        }


def _environment(program: Path, folder: Path) -> dict[str, str]:
    """For a Label Studio that keeps what it writes in `folder`, and tells nobody of itself."""
    return {
        "PATH": f"{program.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "HOME": str(folder),  # Label Studio makes folders in its user's home, whatever its data folder is
        "LANG": "C.UTF-8",
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder / _DATA),
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
    }


def find_label_studio(given: Path | None = None) -> Path:
    """The `label-studio` program: the one given, the one `scripts/bootstrap` installed, or the one on PATH.

    Raises LabelStudioMissing.
    """
    repository = Path(__file__).resolve().parents[3]
    installed = repository / ".label-studio" / "venv" / "bin" / "label-studio"
    on_path = shutil.which("label-studio")
    for candidate in (given, installed, Path(on_path) if on_path else None):
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    raise LabelStudioMissing(
        "Label Studio is not installed. In a clone of prelabel run `scripts/bootstrap demo`; "
        "elsewhere install it in an environment of its own (`uv tool install label-studio==1.23.2`)."
    )


@contextmanager
def running_label_studio(program: Path, planned: LocalLabelStudio) -> Iterator[BackgroundProcess]:
    """Start it, yield once it answers, and end it afterwards."""
    planned.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    place_empty_database(program, lambda folder: _build(program, folder), planned.data_dir / _DATA / _DATABASE)
    command = [str(program), "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(planned.port)]
    with BackgroundProcess("Label Studio", command, planned.environment(program), planned.log_path) as process:
        process.wait_until_answers(f"{planned.url}/health", START_S, lambda reply: reply.status_code == 200)
        yield process


def make_first_start_quick(program: Path) -> None:
    """What the first start of this `program` would do otherwise: build an empty database, for all starts to come."""
    kept = kept_for(program)
    if kept:
        keep_empty_database(kept, lambda folder: _build(program, folder))


def _build(program: Path, folder: Path) -> Path:
    """Have `program` build its tables: asked for its version, it builds them first, and makes no user."""
    env = _environment(program, folder)
    with BackgroundProcess("Label Studio", [str(program), "version"], env, folder / "version.log") as process:
        process.wait_until_ended(START_S)
    return folder / _DATA / _DATABASE
