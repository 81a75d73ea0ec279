"""How often rules were tried on a project's held-out tasks: `rules.json` in the data folder, written by commands alone.

Kept are the rules as they were typed, with what came of them and when. A file that cannot be read is left as it is, and
no rule is tried: a try that nobody knows of would have its number twice. Raises UsageError, and OutputError where it
cannot be written.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import TypeAdapter, ValidationError

from backend.errors import OutputError, UsageError
from backend.quality.compare import told
from backend.quality.people import Labelled
from backend.quality.rules import Tried
from backend.store.state_file import StateFile

FILE_NAME, LOCK_NAME = "rules.json", "rules.lock"


@dataclass(frozen=True, slots=True)
class Try:
    """`of`: what was tried on what, see `stands_for`. `failed`: tasks without an answer, by reason. `at`: seconds since
    the epoch."""

    of: str
    rule: str
    tried: Tried
    failed: Mapping[str, int]
    at: float


_adapter = TypeAdapter(dict[str, tuple[Try, ...]])


class Tries:
    """Of one project, as Label Studio names it to backends. While it is entered nobody else can try a rule: two at a
    time would have the same number. Entering raises UsageError where another command does."""

    def __init__(self, data_dir: Path, project: str) -> None:
        self._path = data_dir / FILE_NAME
        self._lock_path = data_dir / LOCK_NAME
        self._project = project
        self._lock = -1

    def __enter__(self) -> Self:
        try:
            self._lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise OutputError(f"{LOCK_NAME} in the data folder cannot be written ({error.strerror}).") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            if not isinstance(error, BlockingIOError):  # a disk of the network without locks
                raise OutputError(f"{LOCK_NAME} in the data folder cannot be locked ({error.strerror}).") from None
            raise UsageError(
                "--try-rule: another command tries a rule with this data folder now, and each try has a number of its "
                "own. Wait until that one has ended."
            ) from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._lock)

    def all(self) -> tuple[Try, ...]:
        return self._of_all_projects().get(self._project, ())

    def add(self, one: Try) -> None:
        known = self._of_all_projects()
        known[self._project] = (*known.get(self._project, ()), one)
        try:
            StateFile(self._path).save(_adapter.dump_python(known, mode="json"))
        except OSError as error:
            raise OutputError(
                f"{FILE_NAME} in the data folder cannot be written ({error.strerror}), so the try could not be counted "
                "and is not told."
            ) from None

    def _of_all_projects(self) -> dict[str, tuple[Try, ...]]:
        try:
            return _adapter.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not as prelabel writes it"
            raise UsageError(
                f"--try-rule: {self._path} cannot be read ({why}), so how often rules were tried is not known. Put "
                "back a copy of it. Where there is none, rename it: tries count from one then, and the chance of "
                "adopting a rule that is not better begins anew."
            ) from None


def stands_for(instructions: str, model_version: str, tasks: Iterable[Labelled]) -> str:
    """For a try of `instructions` on `tasks` as they are labelled and were answered under `model_version`: the same try
    again is no new one."""
    labelled = sorted(
        (one.name, sorted((name, told(field.value)) for name, field in one.truth.fields.items())) for one in tasks
    )
    text = json.dumps([instructions, model_version, labelled], ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
