"""`prelabel quality RECORDS --truth FILE`: how good a bulk run's answers are, by what people say is right.

Prints sentences and a table for people, or with `--json` everything; `--report` writes a page. Nothing else is written.
Exit code 0. Raises UsageError.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from backend.bulk.exports.records import is_of
from backend.bulk.files import plain_text, replaced
from backend.bulk.lines import read_lines
from backend.bulk.report import local_thumbnail
from backend.bulk.report.pictures import data_address
from backend.bulk.truth import Records, read_truth
from backend.errors import UsageError
from backend.logs import one_line, redact
from backend.pages.numbers import number
from backend.pages.words import Language
from backend.predict.label_configs import default_label_config, parse_or_refuse, read_label_config
from backend.quality.drift import look_of
from backend.quality.page import Find, Where, render_quality
from backend.quality.people import Account
from backend.quality.project import Asked
from backend.quality.summary import Quality, quality_of
from backend.quality.words import Sentences
from backend.settings import Settings
from label_config.schema import LabelSchema


def quality(
    settings: Settings,
    records: Path,
    truth: Path,
    asked: Asked,
    *,
    label_config: str | None,
    json_output: bool,
    report: Path | None,
) -> int:
    language = settings.language
    account = Account()
    try:
        schema = _schema(records, label_config, language)
        known = Records(records, schema)
        tasks = read_truth(truth, known, schema, account, blind=asked.blind)
        found = quality_of(
            schema,
            tasks,
            account.num,
            target=asked.target,
            delta=asked.delta,
            answered=(look_of(schema, one.name, one.answer) for one in known.in_order()),
        )
    except OSError as error:
        raise UsageError(f"{error.filename or truth} cannot be read ({error.strerror}).") from None
    if not found.num_blind + found.num_filled:
        reasons = "; ".join(Sentences("en").unused(reason, num) for reason, num in account.num.items())
        raise UsageError(
            f"{truth} says nothing of the {number(known.num):record|records} in {records}: {reasons or 'it is empty'}."
        )
    doubt = ""
    if truth.suffix.lower() != ".json" and _is_as_written(found, asked.blind):
        doubt = Sentences(language).as_written(truth.name)
        print(one_line(doubt), file=sys.stderr)
    if report is not None:
        write_page(report, found, language, _pictures(known), note=doubt)
    if json_output:
        print(json.dumps(asdict(found), ensure_ascii=False, allow_nan=False))
    else:
        show(found, account, Sentences(language))
    return 0


def _is_as_written(found: Quality, blind: bool) -> bool:
    """Whether a table holds just what we wrote into it. Rows of the blind audit were written empty: who filled one has
    changed the table."""
    if (found.num_blind and not blind) or found.unused.get("unreadable"):
        return False
    return all(share.num_right == share.num for field in found.fields for share in (field.blind, field.filled))


def write_page(out: Path, found: Quality, language: Language, find: Find | None = None, *, note: str = "") -> None:
    """See `render_quality`. Raises UsageError where it cannot be written."""
    try:
        with replaced(out) as file:
            file.write(plain_text(render_quality(found, language, find, note=note)).encode())
    except OSError as error:
        raise UsageError(f"--report {out} cannot be written ({error.strerror}).") from None


def _pictures(known: Records) -> Find:
    """Of records: of files the thumbnails, of other pictures their addresses."""

    def find(name: str) -> Where:
        image = known.image_of(name)
        is_open = image.startswith(("http://", "https://")) and redact(image) == image  # else it holds a key
        return Where(data_address(local_thumbnail(image)), image if is_open else None)

    return find


def _schema(records: Path, label_config: str | None, language: Language) -> LabelSchema:
    """That of `label_config`, else of the ready-made one for the model of the records, in the language they are in."""
    if label_config:
        return parse_or_refuse(read_label_config(label_config))
    if not records.is_file():
        raise UsageError(f"{records} is no file of records; give the one that `annotate --output` wrote.")
    first = next(iter(read_lines(records)), {})
    model = str(first.get("model_version", "")).partition("-")[0]
    languages: tuple[Language, ...] = ("zh", "en") if language == "zh" else ("en", "zh")
    schemas = [parse_or_refuse(read_label_config(default_label_config(model, spoken))) for spoken in languages]
    return next((schema for schema in schemas if is_of(first, schema)), schemas[0])


def show(found: Quality, account: Account, say: Sentences, console: Console | None = None) -> None:
    """Print it for people. Tasks of Label Studio are links where the terminal has them."""
    console = console or Console(highlight=False)
    for sentence in say.of(found):
        console.print(Text(one_line(sentence)))
    console.print(_fields(found, say))
    confused = [(field.name, pair) for field in found.fields for pair in field.confusions]
    for name, pair in sorted(confused, key=lambda item: -item[1].num)[:10]:
        shown = f"{pair.answered or say('（空）', '(none)')} -> {pair.right or say('（空）', '(none)')}"
        console.print(Text(one_line(f"  {pair.num:>4,}  {name}: {shown}   ")) + _names(pair.examples[:3], found))
    if found.unfilled:
        console.print(Text(one_line(say.unfilled(found.unfilled))))
    for reason, num in account.num.items():
        text = Text(one_line(say.unused(reason, num)))
        if names := account.examples.get(reason):
            text += Text(" (") + _names(names, found) + Text(")")
        console.print(text)
    if found.task_url:
        console.print(Text(one_line(say.task_address(found.task_url))))


def _names(names: Sequence[str], found: Quality) -> Text:
    """Of pictures or tasks, with a comma between."""
    links = [
        Text(one_line(name), style=f"link {found.task_url}{name}" if found.task_url.startswith("http") else "")
        for name in names
    ]
    return Text(", ").join(links)


def _fields(found: Quality, say: Sentences) -> Table:
    table = Table(show_lines=False)
    table.add_column(say("字段", "field"), no_wrap=True)
    table.add_column(say("盲检正确", "right, checked blind"), overflow="fold")
    table.add_column(say("预标注后未改动", "pre-filled, unchanged"), overflow="fold")
    table.add_column(say("该字段单独的门槛", "its own threshold"), justify="right", overflow="fold")
    table.add_column("", overflow="fold")
    for field in found.fields:
        threshold = field.threshold.threshold if field.threshold else None
        table.add_row(
            Text(one_line(field.name)),
            say.share(field.blind),
            say.share(field.filled),
            "-" if threshold is None else f"{threshold:.2f}",
            say.details(field),
        )
    return table
