"""How often rules were tried on a project's held-out tasks: `rules.json` in the data folder, written by commands alone.

Kept are the rules as they were typed, with what came of them and when. A file that cannot be read is moved aside with a
date, and then tries are counted from one again, which the log says. Raises OutputError where it cannot be written.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import TypeAdapter, ValidationError

from backend.errors import OutputError, UsageError
from backend.quality.compare import told
from backend.quality.people import Labelled
from backend.quality.rules import Tried
from backend.store.state_file import StateFile

log = logging.getLogger(__name__)

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


_adapter = TypeAdapter(tuple[Try, ...])


class Tries:
    """Of one project, as Label Studio names it to backends. While it is entered nobody else can try a rule: two at a
    time would have the same number. Entering raises UsageError where another command does."""

    def __init__(self, data_dir: Path, project: str) -> None:
        self._file = StateFile(data_dir / FILE_NAME)
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
        except OSError:
            os.close(self._lock)
            raise UsageError(
                "--try-rule: another command tries a rule with this data folder now, and each try has a number of its "
                "own. Wait until that one has ended."
            ) from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._lock)

    def all(self) -> tuple[Try, ...]:
        try:
            return _adapter.validate_python(self._file.load().get(self._project, []))
        except ValidationError:
            log.warning("%s holds no tries of rules that can be read for this project; they count from one", FILE_NAME)
            return ()

    def add(self, one: Try) -> None:
        entries = [asdict(known) for known in (*self.all(), one)]
        try:
            self._file.save({**self._file.load(), self._project: entries})
        except OSError as error:
            raise OutputError(
                f"{FILE_NAME} in the data folder cannot be written ({error.strerror}), so the try could not be counted "
                "and is not told."
            ) from None


def stands_for(instructions: str, model_version: str, tasks: Iterable[Labelled]) -> str:
    """For a try of `instructions` on `tasks` as they are labelled and were answered under `model_version`: the same try
    again is no new one."""
    labelled = sorted(
        (one.name, sorted((name, told(field.value)) for name, field in one.truth.fields.items())) for one in tasks
    )
    text = json.dumps([instructions, model_version, labelled], ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
