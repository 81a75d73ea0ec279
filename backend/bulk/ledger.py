"""What a bulk run has done, on disk: OUT.jsonl with a record a line, OUT.failed.jsonl with a failure a line.

A line is the whole truth about its picture: a run that is killed at any moment and started again writes the rest, and
nothing twice. One run at a time; records of one model version stand in one file, and a version stands for the label
config too. A failure stands until its picture has a record. Blocking. Raises OutputError, and UsageError.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backend.bulk.files import json_line, replaced
from backend.bulk.items import Known, digest, identity_of
from backend.bulk.lines import LineFile, read_lines
from backend.errors import OutputError, UsageError
from backend.pages.numbers import number

_FAILED = ".failed.jsonl"


def failed_path(output: Path) -> Path:
    """`shop.jsonl` has its failures in `shop.failed.jsonl` beside it."""
    return output.with_name(output.name.removesuffix(".jsonl") + _FAILED)


@dataclass(slots=True)
class Past:
    """What an output holds from before. `standing`: the reason of every failure that still stands, by identity.

    `model_version` is that of the records, "" if there are none.
    `is_untidy`: there are lines of failures that do not stand.
    """

    known: Known = field(default_factory=Known)
    standing: dict[bytes, str] = field(default_factory=dict)
    model_version: str = ""
    num_records: int = 0
    is_untidy: bool = False


def read_past(output: Path, *, retry_failed: bool = False) -> Past:
    """To look only: the files need not be there, and another run may hold them. Raises UsageError."""
    failed = failed_path(output)
    try:
        records = read_lines(output) if output.exists() else ()
        return _past(records, read_lines(failed) if failed.exists() else (), output, retry_failed=retry_failed)
    except OSError as error:
        raise UsageError(f"{output} cannot be read ({error.strerror}).") from None


def _past(
    records: Iterable[Mapping[str, Any]], failures: Iterable[Mapping[str, Any]], output: Path, *, retry_failed: bool
) -> Past:
    past = Past()
    try:
        for line in records:
            _note_record(past, line, output)
        for line in failures:
            key, reason = identity_of(line), str(line["reason"])
            if key in past.standing or key in past.known.done:
                past.is_untidy = True
            if key not in past.known.done:
                past.standing[key] = reason
            if not retry_failed:
                past.known.ids.add(digest(str(line["image_id"])))
    except (KeyError, TypeError):
        raise UsageError(
            f"{output} or {failed_path(output).name} holds lines that are no records. Choose another --output."
        ) from None
    if not retry_failed:
        past.known.failed.update(past.standing)
    return past


def _note_record(past: Past, line: Mapping[str, Any], output: Path) -> None:
    version = str(line["model_version"])
    if not past.num_records:
        past.model_version = version
    elif version != past.model_version:
        raise UsageError(
            f"{output} holds records of {past.model_version} and of {version} together. Choose another --output."
        )
    past.num_records += 1
    past.known.done.add(identity_of(line))
    past.known.ids.add(digest(str(line["image_id"])))


class Ledger:
    """Use it from one thread, but for `sync`. `past` is what stood there; `standing` changes as the run goes on."""

    def __init__(self, output: Path, records: LineFile, failed: LineFile, past: Past, *, overwrite: bool) -> None:
        self.output = output
        self.past = past
        self.standing = past.standing
        self._records = records
        self._failed = failed
        self._overwrite = overwrite
        self._is_untidy = past.is_untidy
        self._is_started = False

    @classmethod
    def open(cls, output: Path, *, retry_failed: bool = False, overwrite: bool = False) -> Ledger:
        """Take both files for this run, mend and read them. Nothing is lost by it yet, not by `overwrite` either.

        Raises UsageError if another run holds them, or they hold what is no record.
        """
        records = LineFile.open(output)
        failed = None
        try:
            failed = LineFile.open(failed_path(output))
            past = Past()
            if not overwrite:
                past = _past(records.read(), failed.read(), output, retry_failed=retry_failed)
            return cls(output, records, failed, past, overwrite=overwrite)
        except BaseException:
            if failed is not None:
                failed.close(remove_empty=True)
            records.close(remove_empty=True)
            raise

    def start(self, model_version: str) -> None:
        """Call it before the first `add_...`. Raises UsageError if other records than this run's stand there."""
        self._is_started = True
        if self._overwrite:
            self._records.clear()
            self._failed.clear()
        elif self.past.model_version not in ("", model_version):
            raise UsageError(
                f"{self.output} holds {number(self.past.num_records):record|records} of {self.past.model_version}, and "
                f"this run's would be of {model_version}: the model, the label config or an option has changed. "
                "Choose another --output, or --overwrite to annotate everything anew."
            )
        if self._is_untidy:
            self._failed.close()
            self._tidy()
            self._failed = LineFile.open(failed_path(self.output))

    def add_record(self, record: Mapping[str, Any]) -> None:
        """Raises OutputError."""
        self._records.append(json_line(record))
        if self.standing.pop(identity_of(record), None) is not None:
            self._is_untidy = True

    def add_failure(self, failure: Mapping[str, Any]) -> None:
        """Raises OutputError."""
        self._failed.append(json_line(failure))
        key = identity_of(failure)
        if key in self.standing:
            self._is_untidy = True
        self.standing[key] = str(failure["reason"])

    def sync(self) -> None:
        """Raises OutputError."""
        self._records.sync()
        self._failed.sync()

    def close(self) -> None:
        """Leave one line for each failure that stands, then let go of the files. Raises OutputError."""
        try:
            if self._is_started:
                self.sync()
                self._failed.close(remove_empty=True)
                if self._is_untidy:
                    self._tidy()
        finally:
            self._failed.close(remove_empty=True)
            self._records.close(remove_empty=not self._is_started)

    def _tidy(self) -> None:
        """Keep the last line of each failure that stands. Raises OutputError; the lines are then as they were."""
        path = failed_path(self.output)
        try:
            last = {identity_of(line): number for number, line in enumerate(read_lines(path))}
            if not self.standing:
                path.unlink()
            else:
                with replaced(path) as file:
                    for number, line in enumerate(read_lines(path)):
                        key = identity_of(line)
                        if key in self.standing and last[key] == number:
                            file.write(json_line(line))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise OutputError(f"{path} cannot be written ({error.strerror}). What it holds is whole.") from None
        self._is_untidy = False
