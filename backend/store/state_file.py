"""A small JSON file under the data folder that survives crashes: written beside, synced, then renamed.

A file that cannot be read is moved aside with a date, never deleted. Writing may fail with OSError.
Knows nothing of what it holds.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from backend.errors import SettingsError
from backend.pages.words import Words

log = logging.getLogger(__name__)


class StateFile:
    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> dict[str, Any]:
        """Return what was saved last, {} if nothing was or if it is unreadable."""
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
            if isinstance(document, dict):
                return document
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError):
            pass
        self._move_aside()
        return {}

    def save(self, document: dict[str, Any]) -> None:
        """Replace the file with `document`. Raises OSError (disk full, read-only)."""
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(document, file)  # in ASCII: it may hold half a surrogate pair, as JSON may and UTF-8 may not
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self._path)
        except BaseException:
            os.unlink(name)
            raise

    def _move_aside(self) -> None:
        aside = self._path.with_name(f"{self._path.name}.unreadable-{time.strftime('%Y%m%d-%H%M%S')}")
        log.warning("%s cannot be read; it is kept as %s and a new one is started", self._path, aside.name)
        try:
            self._path.replace(aside)
        except OSError as error:
            log.warning("%s cannot be moved: %s", self._path, error.strerror)


def prepare_data_dir(folder: Path) -> None:
    """Make the data folder and see that it can be written. Raises SettingsError with what to do."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"1")
    except OSError as error:
        values = {"folder": str(folder), "reason": error.strerror or str(error), "uid": str(os.getuid())}
        raise SettingsError(Words("en").check("data_dir_unwritable", values)) from None
