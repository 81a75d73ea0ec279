"""The `prelabel` command. Each subcommand lives in `backend.commands`; this file only declares its options.

Exit codes: 0 done, 1 finished with failures, 2 bad usage or settings (one clear line on stderr).
"""

from __future__ import annotations

import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from backend.commands.outermost import leave_stuck_engine, open_streams, refuse_windows
from backend.errors import LabelStudioError, PrelabelError, SettingsError, UsageError
from backend.logs import one_line, shown_error

app = typer.Typer(
    name="prelabel",
    help="Pre-fill Label Studio image tasks with a local 4-bit Qwen3-VL model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Model = Annotated[str | None, typer.Option(help="Hub id, folder, `garments` or `auto`.")]
VramGib = Annotated[float | None, typer.Option(min=1, max=1024, help="GPU memory to stay within, in GiB.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder for the store and the 4-bit model.")]
Language = Annotated[Literal["zh", "en"] | None, typer.Option(help="Language of captions and prompt.")]
BackendUser = Annotated[str, typer.Option(envvar="BASIC_AUTH_USER", help="User name the backend was started with.")]
BackendPassword = Annotated[
    str, typer.Option(envvar="BASIC_AUTH_PASS", help="Password the backend was started with; empty: none.")
]
LabelConfig = Annotated[
    str | None, typer.Option(help="Label config: a file, or ecommerce.zh, ecommerce.en, garments.zh, garments.en.")
]


def _say_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"prelabel {version('prelabel')}")
        raise typer.Exit


@app.callback()
def prelabel(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    pass


@app.command()
def serve(
    model: Model = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    vram_gib: VramGib = None,
    data_dir: DataDir = None,
    language: Language = None,
    log_level: Annotated[str | None, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = None,
) -> None:
    """Serve the Label Studio ML backend. All other settings come from the environment (docs/settings.md)."""
    settings = _settings(locals())
    from backend.commands.serve import serve as run

    raise typer.Exit(run(settings))


@app.command()
def annotate(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Image files or URLs, folders, lists (.txt, .csv, .xlsx, .jsonl), or Label Studio's JSON export.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File for the records, one JSON line each.")
    ] = None,
    label_config: LabelConfig = None,
    model: Model = None,
    vram_gib: VramGib = None,
    data_dir: DataDir = None,
    language: Language = None,
    review_threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="A field less certain than this is marked for review.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--overwrite", help="Go on with what the output holds, or annotate all anew.")
    ] = True,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try again what failed before.")] = False,
    column: Annotated[
        str, typer.Option(help="Title or number (from 1) of the column with the pictures, in a .csv or .xlsx.")
    ] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many pictures.")] = None,
    audit_share: Annotated[
        float,
        typer.Option(
            min=0, max=0.5, help="Share of the pictures (such as 0.05) whose answers stand in --output alone."
        ),
    ] = 0.0,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=512, help="Pictures in work at once, or Ray's workers; default: what keeps all busy."),
    ] = None,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="This machine's own, or one for each GPU of a Ray cluster.")
    ] = "local",
    ray_address: Annotated[
        str | None, typer.Option(help="Ray cluster to join, HOST:PORT or auto; default: one of its own.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count, measure a sample, tell time and cost; write no output.")
    ] = False,
    price_per_minute: Annotated[
        float | None, typer.Option(min=0, help="What a minute costs, in yuan: of this machine, or of a whole cluster.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Also write a spreadsheet.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="Also write Parquet (extra `parquet`).")] = None,
    label_studio_tasks: Annotated[
        Path | None, typer.Option(help="Also write tasks with predictions, to import into Label Studio.")
    ] = None,
    image_root_url: Annotated[
        str,
        typer.Option(
            help="Web server with the SOURCE folders' pictures (it must allow other sites, CORS); default: "
            "Label Studio's local files."
        ),
    ] = "",
    review_only: Annotated[Path | None, typer.Option(help="Also write the records that need review.")] = None,
    report: Annotated[Path | None, typer.Option(help="Also write a report, as one HTML file.")] = None,
    summary: Annotated[Path | None, typer.Option(help="Also write the summary, as JSON.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the record, or the summary, as JSON.")] = False,
) -> None:
    """Annotate one picture and print the result, or any number of them into a file (--output)."""
    options = dict(locals())
    from backend.bulk.options import BulkOptions, ExportOptions

    exports = ExportOptions(**{name: options.pop(name) for name in ExportOptions.__dataclass_fields__})
    options |= {"sources": tuple(sources), "exports": exports}
    options |= {"overwrite": not options.pop("resume"), "num_workers": options.pop("workers")}
    bulk = BulkOptions(**{name: options.pop(name) for name in BulkOptions.__dataclass_fields__})
    if bulk.is_single:
        from backend.commands.annotate import annotate as run_one

        raise typer.Exit(
            run_one(_settings(options), picture=sources[0], label_config=label_config, json_output=json_output)
        )
    from backend.commands.annotate_many import annotate_many as run

    raise typer.Exit(run(_settings(options), bulk))


@app.command()
def doctor(
    model: Model = None,
    vram_gib: VramGib = None,
    image_tokens: Annotated[
        int | None, typer.Option(help="Tokens a picture becomes; default: PRELABEL_IMAGE_TOKENS.")
    ] = None,
    label_studio: Annotated[
        str | None, typer.Option(help="Address of Label Studio; default: LABEL_STUDIO_URL.")
    ] = None,
    api_key: Annotated[str | None, typer.Option(help="Its access token; default: LABEL_STUDIO_API_KEY.")] = None,
    data_dir: DataDir = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print plan and checks as JSON.")] = False,
    label_config: Annotated[
        str | None, typer.Option(help="Check this label config instead: a file, or the name of a ready-made one.")
    ] = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="With --label-config: print the config that keeps what Label Studio loses.")
    ] = False,
    start: Annotated[
        bool, typer.Option("--start", help="Start the model once instead, as `serve` would, and end: time and memory.")
    ] = False,
    geometry_only: Annotated[
        bool, typer.Option("--geometry-only", help="With --start: random weights, so that nothing is downloaded.")
    ] = False,
) -> None:
    """Say whether prelabel will work here, a line for each check: model, card, disk, port, Label Studio, API key.

    Downloads and starts nothing but with --start; exit code 1 if a check fails.
    """
    if label_config is not None:
        if start or geometry_only or json_output:
            raise SettingsError(
                "--label-config checks a label config alone: say --start, or --json, in a call of its own."
            )
        from backend.commands.check_config import check_label_config

        raise typer.Exit(check_label_config(label_config, fix=fix))
    if fix:
        raise SettingsError("--fix rewrites a label config: name it with --label-config FILE.")
    if geometry_only and not start:
        raise SettingsError("--geometry-only is about a start: say --start, too.")
    settings = _settings(
        {
            "model": model,
            "vram_gib": vram_gib,
            "image_tokens": image_tokens,
            "label_studio_url": label_studio,
            "label_studio_api_key": api_key,
            "data_dir": data_dir,
        }
    )
    if start:
        from backend.commands.dry_start import dry_start

        raise typer.Exit(dry_start(settings, geometry_only=geometry_only, json_output=json_output))
    from backend.commands.doctor import doctor as run

    raise typer.Exit(run(settings, other_card=vram_gib is not None, json_output=json_output))


@app.command()
def connect(
    label_studio: Annotated[str, typer.Option(envvar="LABEL_STUDIO_URL", help="Address of Label Studio.")],
    api_key: Annotated[str, typer.Option(envvar="LABEL_STUDIO_API_KEY", help="Access token, of either kind.")],
    project: Annotated[int | None, typer.Option(help="Id of an existing project.")] = None,
    create: Annotated[str | None, typer.Option(help="Title of a project to create.")] = None,
    backend_url: Annotated[
        str | None,
        typer.Option(
            help="Where Label Studio reaches `prelabel serve`; default: as PRELABEL_PORT and PRELABEL_HOST say."
        ),
    ] = None,
    label_config: LabelConfig = None,
    backend_user: BackendUser = "prelabel",
    backend_password: BackendPassword = "",
    extra_ca_file: Annotated[
        Path | None, typer.Option(envvar="PRELABEL_EXTRA_CA_FILE", help="Certificate authorities to trust as well.")
    ] = None,
    public_url: Annotated[
        str, typer.Option(envvar="LABEL_STUDIO_PUBLIC_URL", help="Address of Label Studio in people's browsers.")
    ] = "",
    audit: Annotated[
        float | None,
        typer.Option(
            help="Per cent of the tasks (0 to 50, such as 5) that open empty, to see how good the answers are."
        ),
    ] = None,
) -> None:
    """Connect a Label Studio project: label config, backend, prelabelling. Safe to run again."""
    options = dict(locals())
    from backend.commands.connect import connect as run

    raise typer.Exit(run(**options | {"backend_url": backend_url or _settings({}).own_url}))


@app.command()
def demo(
    check: Annotated[bool, typer.Option("--check", help="Exit after the table: 0 if every task was filled.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Start Label Studio and the backend, import the bundled pictures, and show what was pre-filled."""
    from backend.commands.demo.run import demo as run

    raise typer.Exit(run(check=check, data_dir=data_dir))


@app.command()
def quality(
    records: Annotated[
        Path | None, typer.Argument(metavar="RECORDS", help="The file that `annotate --output` wrote; with --truth.")
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(help="What is right: Label Studio's JSON export, or the table of --csv, corrected (.csv, .xlsx)."),
    ] = None,
    project: Annotated[
        int | None,
        typer.Option(min=1, help="Instead of both: what people labelled in this project, read from Label Studio."),
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M"], help="With --project: only what was labelled since."),
    ] = None,
    label_config: LabelConfig = None,
    target: Annotated[
        float | None,
        typer.Option(
            min=0.5, max=0.999, help="So many of the answers that may pass unseen are right, at least; default: 0.95."
        ),
    ] = None,
    confidence: Annotated[
        float | None, typer.Option(min=0.5, max=0.999, help="How sure that is to be; default: 0.9.")
    ] = None,
    blind: Annotated[
        bool,
        typer.Option(
            "--blind",
            help="Whoever filled the table did not see the answers (an export says so itself); with --project: tasks "
            "labelled without an answer were chosen by chance.",
        ),
    ] = False,
    data_dir: DataDir = None,
    language: Language = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Also write it as a page with charts, that opens offline.")
    ] = None,
    apply: Annotated[
        bool,
        typer.Option(
            "--apply",
            help="With --project: write the guaranteed thresholds into its model settings, and two tabs into its Data "
            "Manager.",
        ),
    ] = False,
    propose_rules: Annotated[
        bool,
        typer.Option(
            "--propose-rules",
            help="With --project: which labels are confused, and a rule in words that tells them apart.",
        ),
    ] = False,
    try_rule: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="With --project: does this rule (or @FILE) make the answers to held-out tasks better?"
        ),
    ] = None,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="With --try-rule: write a rule that is better into the model settings.")
    ] = False,
    apply_calibration: Annotated[
        bool,
        typer.Option(
            "--apply-calibration",
            help="With --project: have confidences sound as blind labels say; thresholds are to be found again then.",
        ),
    ] = False,
) -> None:
    """Say how good the answers are, and which may pass unseen, by what people say is right."""
    options = dict(locals())
    settings = _settings({name: options.pop(name) for name in ("language", "data_dir")})
    from backend.commands.quality_options import QualityOptions, run_quality

    raise typer.Exit(run_quality(settings, QualityOptions(**options)))


@app.command()
def status(
    url: Annotated[
        str | None,
        typer.Option(help="Where `prelabel serve` listens; default: as PRELABEL_PORT and PRELABEL_HOST say."),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print what /status.json says.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until Ctrl-C.")] = False,
    user: BackendUser = "prelabel",
    password: BackendPassword = "",
) -> None:
    """Say how a running backend is doing: the model, the queue, speed, cost, delivery, and every project."""
    from backend.commands.status import status as run

    url = url or _settings({}).own_url
    raise typer.Exit(run(url, user=user, password=password, json_output=json_output, watch=watch))


def _settings(given: dict[str, Any]) -> Any:
    from backend.settings import load_settings

    return load_settings(given)


def main() -> None:
    """Entry point: errors of ours become one line and an exit code, never a traceback."""
    try:
        _run()
    finally:
        leave_stuck_engine()


def _run() -> None:
    refuse_windows()  # before anything is imported that it has not
    open_streams()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # silences a warning in every forked worker
    from backend.settings import tidy_environment

    for said in tidy_environment():  # before typer reads some of it
        print(f"prelabel: {one_line(said)}", file=sys.stderr)
    try:
        app()
    except PrelabelError as error:
        # These have lines of ours, and one for what others said; the others name files, which may say anything.
        has_lines = isinstance(error, LabelStudioError | SettingsError)
        for line in str(error).splitlines() if has_lines else [str(error)]:
            print(f"prelabel: {shown_error(line)}", file=sys.stderr)
        sys.exit(2 if isinstance(error, SettingsError | UsageError) else 1)
