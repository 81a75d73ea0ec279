"""One bulk run from its sources to its summary, whoever does the work: what is to be done, and what has become of it.

Knows no engine. Blocking. Raises UsageError and OutputError.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console

from backend.bulk.addresses import public_source
from backend.bulk.audit import Withholds, withholds_nothing
from backend.bulk.items import Item, Known, Listing
from backend.bulk.ledger import Ledger
from backend.bulk.left_out import LeftOut
from backend.bulk.lists import ListOptions
from backend.bulk.options import BulkOptions
from backend.bulk.progress import Figures, Progress
from backend.bulk.run import Collector
from backend.bulk.sources import find_pictures
from backend.bulk.summary import RunState, Summary
from backend.errors import UsageError
from label_config.schema import LabelSchema

IMAGE_KEY = "image"
"""Where a task has its picture in every ready-made label config."""


def survey(
    options: BulkOptions, known: Known, lists: ListOptions, left_out: LeftOut, is_stopped: Callable[[], bool]
) -> Listing | None:
    """Go through the sources once, for the counts alone; None if it was stopped.

    Raises UsageError for a list that cannot be read, and if there is no picture at all.
    """
    found = find_pictures(options.sources, lists, left_out)
    counted = Listing(found, known, options.limit, left_out)
    for _ in counted:
        if is_stopped():
            return None
    if not counted.num_total:
        raise UsageError(_no_pictures(options, left_out))
    return counted


def _no_pictures(options: BulkOptions, left_out: LeftOut) -> str:
    named = ", ".join(map(public_source, options.sources[:3])) + (", ..." if len(options.sources) > 3 else "")
    groups = left_out.groups
    counts = ", ".join(f"{group.num:,} {group.reason}" for group in groups)
    examples = "; ".join(group.examples[0] for group in groups[:3])
    why = f" Left out: {counts}, such as {examples}." if groups else ""
    return f"No picture was found in {named}.{why} Read are JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF and HEIC."


class Job:
    """Holds the output's files from when it is made until `close`."""

    def __init__(
        self,
        options: BulkOptions,
        output: Path,
        *,
        image_key: str,
        language: str,
        price: float | None,
        console: Console,
        withholds: Withholds = withholds_nothing,
    ) -> None:
        """`price`: yuan a minute."""
        self.options = options
        self.output = output
        self.left_out = LeftOut()
        self.figures = Figures()
        self.progress = Progress(self.figures, price, console)
        self.load_s = self.seconds = 0.0
        self.model_version = self.label_config = ""
        self._lists = ListOptions(image_key, options.column)
        self._language = language
        self._price = price
        self._started_at = time.time()
        self._counts: Listing | None = None
        self.ledger = Ledger.open(output, retry_failed=options.retry_failed, overwrite=options.overwrite)
        self.collector = Collector(self.ledger, self.figures, withholds)

    def survey(self, is_stopped: Callable[[], bool]) -> int:
        """Count what is to be done; returns how many pictures that are, 0 if it was stopped. Raises UsageError."""
        self._counts = survey(self.options, self.ledger.past.known, self._lists, self.left_out, is_stopped)
        self.figures.num_to_do = self._counts.num_new if self._counts else None
        return self.figures.num_to_do or 0

    @property
    def num_total(self) -> int:
        """Of the pictures, those done before included; 0 before they are counted."""
        return self._counts.num_total if self._counts else 0

    def begin(self, schema: LabelSchema, model_version: str, load_s: float) -> None:
        """Records of this model will be written. Raises UsageError if those of another one stand in the output."""
        self.model_version, self.label_config, self.load_s = model_version, schema.fingerprint, load_s
        self.ledger.start(model_version)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """The time in this block is the run's; it is shown how far it is."""
        began = time.monotonic()
        try:
            with self.progress:
                yield
        finally:
            self.seconds = time.monotonic() - began

    def items(self) -> Iterator[Item]:
        """What is to be done. Call it once, after `survey`."""
        assert self._counts is not None
        return self._counts.again(find_pictures(self.options.sources, self._lists, LeftOut()))

    def close(self) -> None:
        """Raises OutputError."""
        self.ledger.close()

    def summary(self, state: RunState) -> Summary:
        """Of what has become of it by now."""
        figures, counts = self.figures, self._counts
        before = counts.failed_before if counts else Counter[str]()
        return Summary(
            output=str(self.output),
            sources=self.options.sources,
            model_version=self.model_version or self.ledger.past.model_version,
            label_config=self.label_config,
            language=self._language,
            state=state,
            num_total=counts.num_total if counts else None,
            num_done=figures.num_done,
            num_reused=figures.num_reused,
            num_withheld=figures.num_withheld,
            num_review=figures.num_review,
            num_skipped=counts.num_done_before if counts else 0,
            num_failed=figures.num_failed,
            num_failed_before=before.total(),
            failures=dict((figures.failures + before).most_common()),
            messages=dict(figures.messages),
            left_out=self.left_out.groups,
            seconds=self.seconds,
            load_s=self.load_s,
            price_per_minute=self._price,
            started_at=self._started_at,
            finished_at=time.time(),
        )
