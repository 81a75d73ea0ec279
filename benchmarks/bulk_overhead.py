"""The command against the bare engine: the same pictures through its client alone, already decoded, in turns.

Other programs of the machine slow one turn more than the next, so every thousand goes through both, one after the
other, the order changing; the median of the pairs counts. CPU time does not depend on the others as much.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.building import build_engine, build_images
from backend.bulk.label_configs import label_config_for
from backend.engine.messages import Finished, GenerateRequest
from backend.projects import default_options
from backend.recipe import read_answer, recipe_of
from backend.settings import Settings
from benchmarks.bulk_command import annotate, cpu_s_per_picture, list_pictures, records_of, watched

READY_S = 300.0


@dataclass(frozen=True, slots=True)
class Turn:
    """`seconds` from the first picture to the last; `labels` are each picture's."""

    seconds: float
    cpu_s_per_picture: float | None
    labels: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """`same_labels` of `num` pictures. Overheads are shares: 0.05 is 5 % more time than the bare engine takes."""

    num: int
    command_s: float
    bare_s: float
    command_cpu_s: float | None
    bare_cpu_s: float | None
    same_labels: int
    load_average: float

    @property
    def overhead(self) -> float:
        return self.command_s / self.bare_s - 1

    @property
    def cpu_overhead(self) -> float | None:
        """Of the CPU time of all processes, for a picture."""
        return self.command_cpu_s / self.bare_cpu_s - 1 if self.command_cpu_s and self.bare_cpu_s else None


def measure(pictures: Sequence[Path], num_pairs: int, folder: Path, settings: Settings) -> list[Pair]:
    """Each pair takes its share of `pictures`."""
    size = len(pictures) // num_pairs
    pairs = []
    for number in range(num_pairs):
        part = pictures[number * size : (number + 1) * size]
        if number % 2:
            bare = asyncio.run(bare_turn(part, settings))
            command = command_turn(part, folder / f"pair{number}")
        else:
            command = command_turn(part, folder / f"pair{number}")
            bare = asyncio.run(bare_turn(part, settings))
        same = sum(a == b for a, b in zip(command.labels, bare.labels, strict=True))
        cpu = (command.cpu_s_per_picture, bare.cpu_s_per_picture)
        pairs.append(Pair(size, command.seconds, bare.seconds, *cpu, same, os.getloadavg()[0]))
    return pairs


def median_overhead(pairs: Sequence[Pair]) -> float:
    return statistics.median(pair.overhead for pair in pairs)


def median_cpu_overhead(pairs: Sequence[Pair]) -> float | None:
    known = [pair.cpu_overhead for pair in pairs if pair.cpu_overhead is not None]
    return statistics.median(known) if known else None


def command_turn(pictures: Sequence[Path], folder: Path) -> Turn:
    folder.mkdir()
    ended = annotate(list_pictures(folder / "pictures.txt", pictures), folder / "out.jsonl")
    by_image = {record["image"]: record for record in records_of(ended.output).values()}
    labels = tuple(tuple(map(str, by_image[str(picture)]["fields"].values())) for picture in pictures)
    return Turn(ended.seconds, cpu_s_per_picture(ended.samples, len(pictures)), labels)


async def bare_turn(pictures: Sequence[Path], settings: Settings) -> Turn:
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
    return Turn(seconds, cpu_s_per_picture(samples, len(pictures)), labels)


def _text(value: object) -> str:
    """As a record of one picture has it."""
    while isinstance(value, tuple) and len(value) == 1 and isinstance(value[0], tuple | str):
        value = value[0]
    return " / ".join(map(str, value)) if isinstance(value, tuple) else str(value)
