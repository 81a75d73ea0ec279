"""All the files that were asked for besides the records, written when a run has ended. See the package.

Raises UsageError and OutputError, which also stands for a disk that is full: what is missing then can be made by the
same command again (without --overwrite), which has nothing else left to do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from backend.bulk.addresses import is_url
from backend.bulk.exports.csv import write_csv
from backend.bulk.exports.label_studio import Addresses, write_label_studio_tasks
from backend.bulk.exports.parquet import write_parquet
from backend.bulk.exports.records import check_records, write_review_only
from backend.bulk.label_configs import LabelConfig
from backend.bulk.ledger import failed_path
from backend.bulk.options import BulkOptions
from backend.bulk.report import write_report
from backend.bulk.summary import Summary, write_summary
from backend.errors import OutputError
from backend.pages.numbers import number
from backend.settings import Settings
from label_config.prompt import Language

T = TypeVar("T")


def write_exports(
    options: BulkOptions, output: Path, settings: Settings, config: LabelConfig
) -> Iterator[tuple[Path, str]]:
    """Write one after the other, and tell of each what it holds. Nothing is written if a record does not fit `config`:
    a run that had nothing left to do has not compared it with the one the records were made with.
    """
    chosen, schema, language = options.exports, config.schema, settings.language
    audited = False
    if chosen.csv or chosen.parquet or chosen.label_studio_tasks or chosen.report:
        audited = check_records(output, schema)
    if path := chosen.csv:
        yield path, f"{_written(path, partial(write_csv, output, path, schema, audited=audited)):,} rows"
    if path := chosen.parquet:
        yield path, f"{_written(path, partial(write_parquet, output, path, schema, audited=audited)):,} rows"
    if path := chosen.label_studio_tasks:
        parts = _written(
            path,
            partial(
                write_label_studio_tasks,
                output,
                path,
                schema=schema,
                label_config=config.xml,
                language=language,
                addresses=_addresses(options, settings),
                exports=_exports(options.sources),
            ),
        )
        for place, part in enumerate(parts, 1):
            of = f" (part {place} of {len(parts)}: import one after the other)" if len(parts) > 1 else ""
            yield part.path, f"{number(part.num_items):task|tasks} to import into Label Studio{of}"
    if path := chosen.review_only:
        yield path, f"{number(_written(path, partial(write_review_only, output, path))):record|records} to review"


def write_account(
    path: Path | None, output: Path, config: LabelConfig, language: Language, summary: Summary
) -> Iterator[tuple[Path, str]]:
    """The report, if it was asked for. It tells of any run, however that ended."""
    if path:
        failed, schema = failed_path(output), config.schema
        _written(path, lambda: write_report(output, failed, path, schema=schema, summary=summary, language=language))
        yield path, "report"


def write_figures(path: Path | None, summary: Summary, exit_code: int) -> Iterator[tuple[Path, str]]:
    """The summary, in the same way."""
    if path:
        _written(path, lambda: write_summary(summary, path, exit_code))
        yield path, "summary"


def _written(path: Path, write: Callable[[], T]) -> T:
    try:
        return write()
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror}). The records are whole. Free some space first."
        ) from None


def _addresses(options: BulkOptions, settings: Settings) -> Addresses:
    paths = [source for source in options.sources if not is_url(source)]
    folders = {os.path.realpath(path if os.path.isdir(path) else os.path.dirname(path) or ".") for path in paths}
    root = settings.local_files_root
    return Addresses(options.exports.image_root_url, tuple(folders), os.path.realpath(root) if root else "/")


def _exports(sources: Sequence[str]) -> list[Path]:
    """Label Studio's, each once however it is named."""
    named = (source for source in sources if not is_url(source) and source.lower().endswith(".json"))
    return [Path(path) for path in dict.fromkeys(map(os.path.realpath, named))]
