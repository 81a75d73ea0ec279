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

from backend.background_process import BackgroundProcess, free_port
from backend.errors import PrelabelError

START_S = 240.0  # the first start migrates the database: 15 s on a desktop, minutes on a busy small machine
USERNAME = "prelabel@example.com"


class LabelStudioMissing(PrelabelError):
    """The `label-studio` program was not found; the message says how to install it."""


@dataclass(frozen=True, slots=True)
class LocalLabelStudio:
    """Where it is and how to get in. `api_key` is a legacy token."""

    url: str
    username: str
    password: str
    api_key: str
    log_path: Path


def find_label_studio(given: Path | None = None) -> Path:
    """The `label-studio` program: the one given, the one `scripts/bootstrap` installed, or the one on PATH.

    Raises LabelStudioMissing.
    """
    repository = Path(__file__).resolve().parent.parent
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
def local_label_studio(program: Path, data_dir: Path) -> Iterator[LocalLabelStudio]:
    """Start Label Studio on a free port, yield it once it answers, and end it afterwards."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    password, api_key = secrets.token_urlsafe(9), secrets.token_hex(20)
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    env = {
        "PATH": f"{program.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "HOME": str(data_dir),  # Label Studio creates folders in its user's home, whatever its data folder is
        "LANG": "C.UTF-8",
        "LABEL_STUDIO_BASE_DATA_DIR": str(data_dir / "label-studio"),
        "LABEL_STUDIO_HOST": url,
        # In the environment, not on the command line, which every user of the machine can read.
        "LABEL_STUDIO_USERNAME": USERNAME,
        "LABEL_STUDIO_PASSWORD": password,
        "LABEL_STUDIO_USER_TOKEN": api_key,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        # Both are needed before Label Studio talks to a backend on a private address.
        "USE_DEFAULT_BANNED_SUBNETS": "false",
        "ML_BLOCK_LOCAL_IP": "false",
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
    }
    log_path = data_dir / "label-studio.log"
    command = [str(program), "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]
    with BackgroundProcess("Label Studio", command, env, log_path) as process:
        process.wait_until_answers(f"{url}/health", START_S, lambda reply: reply.status_code == 200)
        yield LocalLabelStudio(url, USERNAME, password, api_key, log_path)
