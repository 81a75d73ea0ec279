"""The doors: what our code makes of one input. Each returns, or raises one of the errors that it names as refusals.

An input is made from a seed alone, so that a fault is seen again with `input_of(seed)`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from backend.api.requests import NewConfig, read_predict, read_setup, read_trial, read_webhook
from backend.bulk.left_out import LeftOut
from backend.bulk.lists import ListOptions, read_list
from backend.engine.grammar_check import grammar_problem
from backend.errors import BadRequest, ConfigRefused, ImageError, UsageError
from backend.images import Limits
from backend.images.decode import decode
from backend.predict.label_configs import parse_config
from backend.predict.options import ProjectOptions, read_options
from backend.urls import parse_http_url
from label_config.answer import parse_answer
from label_config.errors import MalformedAnswer, UnsupportedConfig
from label_config.parse import parse_label_config
from label_config.prompt import build_instruction
from label_config.regions import answer_to_regions, regions_to_answer
from label_config.review import review
from label_config.task_value import checked_place, shown
from tests.fuzz import corpus
from tests.fuzz.mutation import ODD_VALUES, mutated, mutated_value

Refusals = tuple[type[Exception], ...]
_SMALL = Limits(max_bytes=2**20, max_pixels=2_000_000, max_decode_bytes=30_000_000, picture_max_pixels=200_000)


@dataclass(frozen=True, slots=True)
class Door:
    """`enter` gets what `input_of` makes, and an empty folder."""

    input_of: Callable[[random.Random], Any]
    enter: Callable[[Any, Path], object]
    refusals: Refusals


def _body(chance: random.Random) -> bytes:
    if chance.random() < 0.5:
        return mutated(chance, corpus.bodies(), corpus.JSON_WORDS)
    return json.dumps(mutated_value(chance, [json.loads(body) for body in corpus.bodies()])).encode()


def _read_body(body: bytes, folder: Path) -> None:
    for read in (_read_predict, read_setup, read_trial, read_webhook):
        try:
            read(body)
        except (BadRequest, ConfigRefused):
            continue


def _read_predict(body: bytes) -> None:
    try:
        read_predict(body, 50)
    except NewConfig as new:
        read_predict(body, 50, parse_config(new.label_config).image_key)


def _read_config(data: bytes, folder: Path) -> None:
    schema = parse_label_config(data)
    build_instruction(schema)
    grammar_problem(schema, 200)
    answer_to_regions(schema, regions_to_answer(schema, []), seed="1")


def _table(chance: random.Random) -> tuple[str, bytes]:
    suffix = chance.choice(sorted(corpus.lists()))
    return suffix, mutated(chance, corpus.lists()[suffix], corpus.TABLE_WORDS)


def _read_table(given: tuple[str, bytes], folder: Path) -> None:
    suffix, data = given
    path = folder / f"list{suffix}"
    path.write_bytes(data)
    for found in read_list(path, ListOptions("image"), LeftOut()):
        str(found)


def _picture(chance: random.Random) -> bytes:
    return mutated(chance, corpus.pictures())


def _task_data(chance: random.Random) -> tuple[str, Any]:
    place = mutated(chance, corpus.PLACES, (b"$", b".", b"[0]", b"{", b"}")).decode("utf-8", "replace")
    return place, mutated_value(chance, corpus.TASK_DATA)


def _read_task(given: tuple[str, Any], folder: Path) -> None:
    place, data = given
    known = checked_place(place)
    if isinstance(data, dict) and (address := shown(known, data)):
        parse_http_url(address)


def _annotation(chance: random.Random) -> Any:
    return mutated_value(chance, corpus.annotated())


def _read_annotation(regions: Any, folder: Path) -> None:
    if not isinstance(regions, list):
        return
    schema = corpus.schema()
    answer = regions_to_answer(schema, regions)
    again = answer_to_regions(schema, answer, review(schema, answer), seed="1")
    json.dumps(again, allow_nan=False).encode()


def _generated(chance: random.Random) -> tuple[list[bytes], bool]:
    data = mutated(chance, corpus.answers(), corpus.JSON_WORDS)
    size = chance.choice((1, 2, 3, 7))
    return [data[start : start + size] for start in range(0, len(data), size)], chance.random() < 0.5


def _read_generated(given: tuple[list[bytes], bool], folder: Path) -> None:
    pieces, truncated = given
    answer = parse_answer(corpus.schema(), pieces, [0.5] * len(pieces), truncated=truncated)
    json.dumps(answer_to_regions(corpus.schema(), answer, seed="1"), allow_nan=False).encode()


def _params(chance: random.Random) -> Any:
    value = mutated_value(chance, [*corpus.EXTRA_PARAMS, *ODD_VALUES])
    return json.dumps(value) if chance.random() < 0.5 else value


@cache
def doors() -> dict[str, Door]:
    """By name. The order is that of a table of them."""
    return {
        "bodies": Door(_body, _read_body, ()),
        "label configs": Door(
            lambda chance: mutated(chance, corpus.configs(), corpus.CONFIG_WORDS), _read_config, (UnsupportedConfig,)
        ),
        "tables and lists": Door(_table, _read_table, (UsageError,)),
        "pictures": Door(_picture, lambda data, folder: decode(data, _SMALL), (ImageError,)),
        "task data": Door(_task_data, _read_task, (UnsupportedConfig, ImageError)),
        "annotations": Door(_annotation, _read_annotation, ()),
        "generated answers": Door(_generated, _read_generated, (MalformedAnswer,)),
        "extra params": Door(_params, lambda given, folder: read_options(given, ProjectOptions()), ()),
    }
