"""What a person asked of a bulk run, and whether that goes together. Raises UsageError, before anything is started."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from backend.bulk.addresses import is_url
from backend.bulk.ledger import failed_path
from backend.bulk.parts import is_part
from backend.bulk.sources import check_sources, is_list
from backend.errors import UsageError

EngineKind = Literal["local", "ray"]


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Files to make of the records when the run has ended. `image_root_url` is for `label_studio_tasks`."""

    csv: Path | None = None
    parquet: Path | None = None
    label_studio_tasks: Path | None = None
    image_root_url: str = ""
    review_only: Path | None = None
    report: Path | None = None
    summary: Path | None = None

    def named(self) -> dict[str, Path]:
        """Option -> file, for those that were given."""
        given = {f"--{each.name.replace('_', '-')}": getattr(self, each.name) for each in fields(self)}
        return {option: path for option, path in given.items() if isinstance(path, Path)}


@dataclass(frozen=True, slots=True)
class BulkOptions:
    """`num_workers`: pictures in work at once; None: as many as keep the engine busy. With the engine "ray": engines;
    None: one a GPU. `ray_address`: of a cluster to join; None: one of our own. `column`: the title or the number, from
    1, of the column with the pictures in tables; "": the one that is titled so. `audit_share` (0..0.5) of the pictures
    are withheld for the blind audit.
    """

    sources: tuple[str, ...]
    output: Path | None = None
    label_config: str | None = None
    limit: int | None = None
    dry_run: bool = False
    overwrite: bool = False
    retry_failed: bool = False
    num_workers: int | None = None
    json_output: bool = False
    engine: EngineKind = "local"
    ray_address: str | None = None
    column: str = ""
    audit_share: float = 0.0
    exports: ExportOptions = ExportOptions()

    @property
    def is_single(self) -> bool:
        """One picture, to be shown and not written."""
        plain = BulkOptions(self.sources, label_config=self.label_config, json_output=self.json_output)
        if self != plain or len(self.sources) != 1:
            return False
        return is_url(self.sources[0]) or not (os.path.isdir(self.sources[0]) or is_list(self.sources[0]))


def check_options(options: BulkOptions) -> None:
    check_sources(options.sources)
    if options.output is None and not options.dry_run:
        raise UsageError("Say where the records go: --output FILE.jsonl (or --dry-run, to see what would be done).")
    if options.column and not any(
        is_list(source) and not source.lower().endswith("json") for source in options.sources
    ):
        raise UsageError("--column is for tables (.csv, .tsv, .xlsx), and no SOURCE is one.")
    if options.overwrite and options.retry_failed:
        raise UsageError("--overwrite annotates everything anew, the failed pictures too: leave out --retry-failed.")
    exports = options.exports
    if exports.image_root_url and not is_url(exports.image_root_url):
        raise UsageError("--image-root-url must be an address such as https://shop.example/pictures/")
    if exports.image_root_url and exports.label_studio_tasks is None:
        raise UsageError("--image-root-url is for --label-studio-tasks, which is not given.")
    if options.ray_address is not None and options.engine != "ray":
        raise UsageError("--ray-address is for --engine ray, which is not given.")
    if options.engine == "ray" and (options.dry_run or options.output is None):
        raise UsageError("--dry-run measures this machine's own engine: leave out --engine ray.")
    _check_files(options)


def _check_files(options: BulkOptions) -> None:
    """Every file to be written can be, and none is another one's, or a source."""
    files = options.exports.named()
    if options.output is not None:
        files |= {"--output": options.output, "the failures": failed_path(options.output)}
    real = {name: os.path.realpath(path) for name, path in files.items()}
    sources = {os.path.realpath(source) for source in options.sources if not is_url(source)}
    for name, path in files.items():
        try:
            _check_file(name, path)
        except OSError as error:
            raise UsageError(f"{path} cannot be written ({error.strerror}). Choose another file for {name}.") from None
        if real[name] in sources:
            raise UsageError(f"{path} is a SOURCE and cannot be written too. Choose another file for {name}.")
    if tasks := options.exports.label_studio_tasks:
        whole = Path(os.path.realpath(tasks))
        for file in sources | set(real.values()):
            if is_part(Path(file), whole):
                raise UsageError(
                    f"{file} is the name of a part of {tasks}, if that becomes too large for Label Studio. "
                    "Choose another file for --label-studio-tasks."
                )
    for file, count in Counter(real.values()).items():
        if count > 1:
            names = " and ".join(name for name, other in real.items() if other == file)
            raise UsageError(f"{names} would both be written to {file}. Choose two files.")


def _check_file(name: str, path: Path) -> None:
    """Raises UsageError, and OSError for a path that cannot even be looked at."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder. Name a file for {name}.")
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no ordinary file. Choose another one for {name}.")
    if not path.parent.is_dir():
        raise UsageError(f"The folder {path.parent} is not there. Make it, or choose another file for {name}.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UsageError(f"Nothing can be written into the folder {path.parent}. Choose another file for {name}.")
