"""How often rules were tried on a project's held-out tasks: `rules.json` in the data folder, written by commands alone.

Kept are the rules as they were typed, with what came of them and when. A file that cannot be read is moved aside with a
date, and then tries are counted from one again, which the log says. Raises OutputError where it cannot be written.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from backend.errors import OutputError
from backend.quality.compare import told
from backend.quality.people import Labelled
from backend.quality.rules import Tried
from backend.store.state_file import StateFile

log = logging.getLogger(__name__)

FILE_NAME = "rules.json"


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
    """Of one project, as Label Studio names it to backends."""

    def __init__(self, data_dir: Path, project: str) -> None:
        self._file = StateFile(data_dir / FILE_NAME)
        self._project = project

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
