"""`prelabel quality --project ID`: how good the answers of a project are, by what people labelled in Label Studio.

Reads what changed there since the last time, into the store that `prelabel serve` keeps (beside it, if it runs), and
says the same as `prelabel quality RECORDS`. Changes nothing in Label Studio, but with `--apply` or
`--apply-calibration`. Exit code 0. Raises PrelabelError.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from backend.commands.model_settings import model_settings
from backend.commands.quality import show, write_page
from backend.commands.quality_apply import apply_calibration, apply_threshold
from backend.errors import SettingsError, UsageError
from backend.label_studio.address import shown_url
from backend.label_studio.people import PeopleClient
from backend.label_studio.predictions import CurrentProject
from backend.logs import one_line
from backend.predict.label_configs import parse_or_refuse
from backend.predict.options import ProjectOptions
from backend.quality.project import Asked, OfVersion, project_quality
from backend.quality.reading import read_people
from backend.quality.rule_words import next_step
from backend.quality.versions import known_present
from backend.quality.words import Sentences
from backend.settings import Settings
from backend.store import Store
from backend.store.serving import FILE_NAME
from backend.store.state_file import prepare_data_dir


def quality_of_project(
    settings: Settings,
    number: int,
    asked: Asked,
    *,
    json_output: bool,
    report: Path | None,
    apply: bool,
    calibrate: bool,
) -> int:
    """`apply`: make the threshold that is found the project's own; `calibrate`: the temperatures."""
    found, num_tasks, options = _found(settings, number, asked, is_to_change=apply or calibrate)
    if not found:
        raise UsageError(
            f"--project {number}: nobody has labelled a task that has an answer yet (tasks in all: {num_tasks:,})."
        )
    main, *others = found
    if report is not None:
        write_page(report, main.quality, settings.language)
    if json_output:
        versions = [{"model_version": one.model_version, **asdict(one.quality)} for one in others]
        document = {"model_version": main.model_version, **asdict(main.quality), "other_versions": versions}
        print(json.dumps(document, ensure_ascii=False, allow_nan=False))
    else:
        say = Sentences(settings.language)
        print(one_line(say.model_version(main.model_version)))  # a prediction in Label Studio may have any
        show(main.quality, main.account, say)
        for step in next_step(main.quality.fields, str(number), say):
            print(one_line(step))
        for other in others:
            print(one_line(say.version(other.model_version, other.quality)))
    if options is not None:
        write = apply_threshold if apply else apply_calibration
        with model_settings(settings, number) as to:
            write(to, main.quality, options)
    return 0


def _found(
    settings: Settings, number: int, asked: Asked, *, is_to_change: bool
) -> tuple[list[OfVersion], int, ProjectOptions | None]:
    """The qualities, how many tasks the project has, and the options of its present model version where these are to be
    changed: then that version must be known."""
    with project_as_read(settings, number) as read:
        store, uid = read.store, read.current.uid
        schema = parse_or_refuse(read.current.label_config)
        options = known_present(store, uid, schema)[0].options if is_to_change else None
        known = store.present(uid)
        base = shown_url(settings.label_studio_url, settings.label_studio_public_url)
        task_url = f"{base}/projects/{uid.partition('.')[0]}/data?task="
        found = project_quality(store, uid, schema, known[0] if known else "", asked, task_url=task_url)
        return found, store.reading(uid).num_tasks, options


@dataclass(frozen=True, slots=True)
class Read:
    """A project, and what people did in it as the store has it now."""

    store: Store
    client: PeopleClient
    current: CurrentProject


@contextmanager
def project_as_read(settings: Settings, number: int) -> Iterator[Read]:
    """Read what changed in it since the last time. Raises SettingsError, UsageError and what reading raises."""
    url, key = settings.label_studio_url, settings.label_studio_api_key.get_secret_value()
    if not url or not key:
        raise SettingsError(
            "--project reads what people labelled in Label Studio: set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY, as "
            "`prelabel serve` has them."
        )
    prepare_data_dir(settings.data_dir)
    now = time.time()
    with (
        Store.beside(settings.data_dir / FILE_NAME, now) as store,
        PeopleClient(url, key, extra_ca_file=settings.extra_ca_file) as client,
    ):
        current = client.current_project(number)
        if current is None:
            raise UsageError(f"--project {number}: Label Studio at {url} has no such project.")
        say = Sentences(settings.language)
        reading = say("正在读取项目 {id} 的标注：{title}", "Reading what people labelled in project {id}: {title}")
        print(reading.format(id=number, title=one_line(current.title)), file=sys.stderr)
        read_people(client, store, current.uid, now)
        yield Read(store, client, current)
