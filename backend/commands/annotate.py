"""`prelabel annotate PICTURE`: one picture through the same engine, grammar and review rules as the server.

Prints a table for people or, with `--json`, one record a line. Exit code 1 when the picture cannot be annotated.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from backend.bulk.files import json_line
from backend.bulk.loading import tell_choice, wait_with_progress
from backend.engine.messages import Finished, Ready
from backend.errors import GenerationFailed
from backend.images import FetchedImage, ImageFetcher
from backend.logs import configure_logging, one_line
from backend.predict.build import build_engine, build_images
from backend.predict.label_configs import default_label_config, parse_or_refuse, read_label_config
from backend.predict.options import default_options
from backend.predict.recipe import Recipe, read_answer, recipe_of
from backend.predict.record import make_record
from backend.settings import Settings
from label_config.errors import MalformedAnswer
from label_config.schema import LabelSchema

log = logging.getLogger(__name__)


def annotate(settings: Settings, *, picture: str, label_config: str | None, json_output: bool) -> int:
    """Annotate `picture` (a path or an address) and print the record. Raises PrelabelError."""
    settings = settings.quieter()
    configure_logging(settings.log_level)
    schema = parse_or_refuse(read_label_config(label_config)) if label_config else None
    record = asyncio.run(_annotate(settings, picture, schema))
    if json_output:
        print(json_line(record).decode(), end="")  # rich would wrap the line
    else:
        Console().print(_table(record))
    return 0


async def _annotate(settings: Settings, picture: str, schema: LabelSchema | None) -> dict[str, Any]:
    engine, images = build_engine(settings), build_images(settings)
    await engine.start()
    try:
        fetched = await _fetch(images, picture)
        if fetched.remarks:
            log.warning("%s is decoded, but: %s", picture, fetched.remarks)
        console = Console(stderr=True)
        ready = await wait_with_progress(engine, console)
        tell_choice(settings, ready.model_name, console)
        if schema is None:
            schema = parse_or_refuse(read_label_config(default_label_config(ready.model_name, settings.language)))
        recipe = recipe_of(schema, default_options(settings), settings.image_tokens)
        finished = await engine.generate(recipe.request(fetched.picture, fetched.sha256, interactive=True))
        return _record(recipe, ready, finished, fetched, Path(picture).stem)
    finally:
        await images.aclose()
        await engine.close()


async def _fetch(images: ImageFetcher, picture: str) -> FetchedImage:
    if "://" in picture or picture.startswith("data:"):
        return await images.fetch(picture)
    return await images.fetch_file(Path(picture))


def _record(recipe: Recipe, ready: Ready, finished: Finished, fetched: FetchedImage, image_id: str) -> dict[str, Any]:
    try:
        answer, findings = read_answer(recipe, finished, fetched)
    except MalformedAnswer as error:
        raise GenerationFailed(f"the model's answer cannot be used: {error}", "malformed_answer") from None
    return make_record(
        recipe.schema,
        answer,
        findings,
        image_id=image_id,
        model_version=recipe.version(ready),
        language=recipe.options.language,
    )


def _table(record: dict[str, Any]) -> Table:
    """Everything in it comes from a file name, a label config or the model: none of it is markup, or a control
    character."""
    table = Table(title=_text(f"{record['image_id']}  ({record['model_version']})"), show_lines=True)
    table.add_column("field", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("confidence", justify="right")
    for name, value in record["fields"].items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        confidence = record["confidence"].get(name)
        table.add_row(_text(name), _text(shown), "" if confidence is None else f"{confidence:.0%}")
    table.add_row("needs review", _text("; ".join(record["review_reasons"]) or "no"), "")
    return table


def _text(text: str) -> Text:
    return Text(one_line(text))
