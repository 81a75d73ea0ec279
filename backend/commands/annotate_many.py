"""`prelabel annotate SOURCE... --output OUT.jsonl`: any number of pictures, one JSON line each.

The first Ctrl-C (or SIGTERM) lets what is in work end, the second ends at once; the same command again goes on. Exit
codes: 0 all done, 1 finished with failures, 2 bad usage (UsageError), 128 + n stopped by signal n.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from backend.bulk.audit import withholder
from backend.bulk.dry_run import dry_run, estimate_table
from backend.bulk.exports.label_studio import parts_notice
from backend.bulk.exports.parquet import require_pyarrow
from backend.bulk.exports.write import write_account, write_exports, write_figures
from backend.bulk.files import json_line
from backend.bulk.job import IMAGE_KEY, Job
from backend.bulk.label_configs import LabelConfig, label_config_called, label_config_for
from backend.bulk.loading import Stopped
from backend.bulk.local_run import run_local
from backend.bulk.options import BulkOptions, check_options
from backend.bulk.sources import is_list
from backend.bulk.summary import RunState, Summary, account, summary_table
from backend.errors import OutputError, PrelabelError, UsageError
from backend.logs import configure_logging, one_line, shown_error
from backend.ray.bulk.run import run_ray
from backend.ray.cluster import require_ray
from backend.settings import Settings
from label_config.task_value import is_text

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SAME_S = 0.7
"""What starts us may hand on a Ctrl-C that the terminal has sent us already: it is no second one."""


def annotate_many(settings: Settings, options: BulkOptions) -> int:
    """Return the exit code. Raises PrelabelError."""
    settings = settings.quieter()
    configure_logging(settings.log_level)
    check_options(options)
    if options.engine == "ray":
        require_ray()
    if options.exports.parquet is not None:
        require_pyarrow()
    config = label_config_called(options.label_config) if options.label_config else None
    if config is not None:
        _check_tasks_can_be_written(options, config)
        for warning in config.schema.warnings:
            _say(warning)
    stop = _Stop()
    if options.engine == "ray":
        stop.notice = "the pictures that workers have are left to the next run"
    try:
        if options.output is None or options.dry_run:
            return asyncio.run(_dry_run(settings, options, config, stop))
        ended = asyncio.run(_run(settings, options, options.output, config, stop))
        return _conclude(settings, options, options.output, ended, stop)
    except (KeyboardInterrupt, asyncio.CancelledError, Stopped):
        _say("stopped." if options.dry_run else f"stopped. {_same_again(options)} goes on where this one was.")
        return stop.exit_code


def _check_tasks_can_be_written(options: BulkOptions, config: LabelConfig) -> None:
    """Raises UsageError."""
    place = config.schema.image_key
    from_tasks = all(is_list(source) and source.lower().endswith(".json") for source in options.sources)
    if options.exports.label_studio_tasks and is_text(place) and not from_tasks:
        raise UsageError(
            f'--label-studio-tasks: which keys a new task needs for value="{place}" of the <Image> is not known. Use a '
            'label config with value="$image", or give the tasks themselves (Label Studio\'s JSON export) as SOURCE.'
        )


@dataclass(slots=True)
class _Stop:
    """Set by the first signal; the second one ends the run at once."""

    event: asyncio.Event = field(default_factory=asyncio.Event)
    number: int = signal.SIGINT
    notice: str = "the pictures under way end first"
    heard_at: float = 0.0

    @property
    def exit_code(self) -> int:
        return 128 + self.number

    def listen(self) -> None:
        """Of the running loop's task."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def heard(number: signal.Signals) -> None:
            if self.event.is_set():
                if loop.time() >= self.heard_at + _SAME_S:
                    task.cancel()
                return
            self.number, self.heard_at = number, loop.time()
            self.event.set()
            _say(f"stopping; {self.notice} (Ctrl-C again: at once)")

        for number in _SIGNALS:
            loop.add_signal_handler(number, heard, number)


@dataclass(frozen=True, slots=True)
class _Ended:
    """`error` is why the run could not go on."""

    summary: Summary
    config: LabelConfig
    error: PrelabelError | None


async def _dry_run(settings: Settings, options: BulkOptions, config: LabelConfig | None, stop: _Stop) -> int:
    stop.listen()
    estimate = await dry_run(settings, options, config, Console(stderr=True), stop.event)
    _say_parts(options, estimate.num_total)
    _show(options, estimate.as_dict(), estimate_table(estimate))
    return 0


async def _run(
    settings: Settings, options: BulkOptions, output: Path, config: LabelConfig | None, stop: _Stop
) -> _Ended:
    stop.listen()
    console = Console(stderr=True)
    image_key = config.schema.image_key if config else IMAGE_KEY
    job = Job(
        options,
        output,
        image_key=image_key,
        language=settings.language,
        price=settings.price_per_minute,
        console=console,
        withholds=await asyncio.to_thread(withholder, settings.data_dir, options.audit_share),
    )
    if file := options.exports.summary:
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)  # it tells of an earlier run; this one may end without
    error: PrelabelError | None = None
    try:
        try:
            num_to_do = await asyncio.to_thread(job.survey, stop.event.is_set)
            for group in job.left_out.groups:
                _say(f"left out {group.num:,} ({group.reason}): {group.sentence}")
            _say_parts(options, job.num_total)
            if num_to_do and not stop.event.is_set():
                run = run_ray if options.engine == "ray" else run_local
                config = await run(settings, job, config, console, stop.event)
        finally:
            job.close()
    except UsageError:
        raise
    except PrelabelError as raised:
        if not job.model_version:
            raise
        error = raised
    config = config or label_config_for(job.ledger.past.model_version, settings.language)  # nothing was to do
    job.label_config = config.schema.fingerprint
    state: RunState = "stopped" if error else "interrupted" if stop.event.is_set() else "finished"
    return _Ended(job.summary(state), config, error)


def _conclude(settings: Settings, options: BulkOptions, output: Path, ended: _Ended, stop: _Stop) -> int:
    """Make the other files, those of the records only if the run is whole, and tell how it went."""
    summary, error, exports, config = ended.summary, ended.error, options.exports, ended.config

    def attempt(write: Callable[[], Iterable[tuple[Path, str]]]) -> None:
        nonlocal summary, error
        try:
            for path, what in write():
                _say(f"wrote {path}: {what}")
        except PrelabelError as raised:
            error = error or raised
        if error is not None:
            summary = replace(summary, error=shown_error(error))

    if summary.state == "finished":
        attempt(lambda: write_exports(options, output, settings, config))
    if not isinstance(error, UsageError):  # it says that the records and the label config do not fit
        attempt(lambda: write_account(exports.report, output, config, settings.language, summary))
    attempt(lambda: write_figures(exports.summary, summary, _exit_code(summary, error, stop)))
    code = _exit_code(summary, error, stop)
    _show(options, summary.as_dict() | {"exit_code": code}, summary_table(summary))
    if summary.num_found is not None:
        _say(f"found {summary.num_found:,} {account(summary)}")
    if error is not None:
        _say(summary.error)
    if summary.state != "finished":
        _say(f"stopped before the end. {output} is whole. {_same_again(options)} goes on from there.")
    elif isinstance(error, OutputError):
        _say(f"{output} is whole. {_same_again(options)} makes the files that are missing.")
    return code


def _say_parts(options: BulkOptions, num_pictures: int) -> None:
    tasks = options.exports.label_studio_tasks
    if tasks is not None and (notice := parts_notice(tasks, num_pictures)):
        _say(notice)


def _same_again(options: BulkOptions) -> str:
    return "The same command again" + (", without --overwrite," if options.overwrite else "")


def _exit_code(summary: Summary, error: PrelabelError | None, stop: _Stop) -> int:
    if isinstance(error, UsageError):
        return 2
    return stop.exit_code if error is None and summary.state == "interrupted" else summary.exit_code


def _show(options: BulkOptions, document: dict[str, Any], table: Table) -> None:
    if options.json_output:
        print(json_line(document).decode(), end="")
    else:
        Console(highlight=False).print(table)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # a log that cannot be written must not end the run
        print(f"prelabel: {one_line(text)}", file=sys.stderr, flush=True)
