"""The engine's client alone, for `benchmarks.bulk_overhead`: a list of pictures, decoded before the clock runs.

A process of its own, started as the command is. Imports no torch, as the command does not.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backend.bulk.label_configs import label_config_for
from backend.engine.messages import Finished, GenerateRequest
from backend.predict.build import build_engine, build_images
from backend.predict.options import default_options
from backend.predict.recipe import read_answer, recipe_of
from backend.settings import Settings, load_settings
from benchmarks.bulk_command import cpu_s_per_picture, watched

READY_S = 300.0


def main() -> None:
    """Arguments: a text list of pictures, and the file for the figures."""
    source, found = map(Path, sys.argv[1:])
    pictures = [Path(line) for line in source.read_text(encoding="utf-8").splitlines()]
    settings = load_settings({"model": "garments", "data_dir": source.parent / "data", "log_level": "WARNING"})
    found.write_text(json.dumps(asyncio.run(ask_all(pictures, settings))), encoding="utf-8")


async def ask_all(pictures: Sequence[Path], settings: Settings) -> dict[str, Any]:
    """As many in flight as the command has. The clock runs from the first request to the last answer, as the
    command's does: the instruction's prefill and the grammar are in it, loading and decoding are not."""
    engine, images = build_engine(settings), build_images(settings)
    await engine.start()
    try:
        ready = await engine.wait_ready(READY_S)
        schema = label_config_for(ready.model_name, settings.language).schema
        recipe = recipe_of(schema, default_options(settings), settings.image_tokens)
        requests: deque[tuple[int, GenerateRequest]] = deque()
        for number, picture in enumerate(pictures):
            fetched = await images.fetch_file(picture)
            requests.append((number, recipe.request(fetched.picture, fetched.sha256, interactive=False)))
        answers: dict[int, Finished] = {}

        async def work() -> None:
            while requests:
                number, request = requests.popleft()
                answers[number] = await engine.generate(request)

        with watched(os.getpid(), lambda: len(answers)) as samples:
            began = time.perf_counter()
            await asyncio.gather(*(work() for _ in range(2 * ready.max_slots)))
            seconds = time.perf_counter() - began
    finally:
        await images.aclose()
        await engine.close()
    read = [read_answer(recipe, answers[number])[0] for number in range(len(pictures))]
    labels = tuple(tuple(_text(answer.fields[field.name].value) for field in schema.fields) for answer in read)
    cpu_s = cpu_s_per_picture(samples, len(pictures))
    return {"seconds": seconds, "cpu_s_per_picture": cpu_s, "labels": labels}


def _text(value: object) -> str:
    """As a record of one picture has it."""
    while isinstance(value, tuple) and len(value) == 1 and isinstance(value[0], tuple | str):
        value = value[0]
    return " / ".join(map(str, value)) if isinstance(value, tuple) else str(value)
