"""The HTML report of a bulk run: one file that opens anywhere, offline, and says what was done. See `write_report`."""

from __future__ import annotations

from pathlib import Path

from backend.bulk.files import plain_text, replaced
from backend.bulk.report.page import render
from backend.bulk.report.pictures import Thumbnails, local_thumbnail
from backend.bulk.report.rows import read_failures, read_rows
from backend.bulk.report.tally import Tally
from backend.bulk.summary import Summary
from backend.pages.words import Language
from label_config.schema import LabelSchema

__all__ = ["Thumbnails", "local_thumbnail", "write_report"]


def write_report(
    records: Path,
    failed: Path,
    out: Path,
    *,
    schema: LabelSchema,
    summary: Summary,
    language: Language,
    thumbnails: Thumbnails | None = None,
) -> None:
    """Write the report of `records` and `failed` (either need not exist) to `out`, in one step.

    Reads each file once and keeps only counts and the few pictures that are shown. `thumbnails` gives a JPEG of about
    `THUMBNAIL_PX` for the `image` of a record, or None; the default reads local files. Raises OSError.
    """
    tally = Tally(schema)
    for row in read_rows(records):
        if row is None:
            tally.num_unreadable += 1
        else:
            tally.add(row)
    for failure in read_failures(failed):
        if failure is None:
            tally.num_unreadable += 1
        else:
            tally.add_failure(failure)
    page = render(tally, summary, schema, language, thumbnails or local_thumbnail)
    with replaced(out) as file:
        file.write(plain_text(page).encode())
