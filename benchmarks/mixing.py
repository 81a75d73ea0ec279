"""Parts of `benchmarks.engine` that need the engine in this process: what sharing and mixed steps give, and cost.

All in CPU time, of all threads of this process: it says which way is less work, whatever other programs do meanwhile.
Ways are measured in turns; medians of the rounds.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from backend.engine.messages import Sampling, Submit
from backend.engine.options import EngineOptions
from backend.engine.scheduler import MIXED_FROM
from benchmarks.in_process import InProcessEngine
from benchmarks.pictures import request_about
from benchmarks.report import Figure, Part, latencies, percentile
from model_loader.loader import LoadedModel, load_model

NEVER = 2**31
FULL_SLOTS = 32
PAUSE_S = 0.05  # between two interactive requests, on average


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run the engine. `own_instructions`: no two requests have the same, so none can be shared."""

    name: str
    slots: int
    mixed_from: int = MIXED_FROM
    own_instructions: bool = False


def sharing(folder: Path, small: bool) -> Part:
    """The same pictures with one instruction, and with one each."""
    slot_counts, num, num_rounds = ((2,), 8, 1) if small else ((1, 8, 16, 32), 48, 3)
    ways = [Way(name, slots, own_instructions=own) for slots in slot_counts for name, own in _INSTRUCTIONS]
    cpu_s = _cpu_s(ways, num, num_rounds)
    figures = [Figure(f"{way.slots} slots, {way.name}: CPU time a picture", cpu_s[way], "s") for way in ways]
    figures += [
        Figure(f"{shared.slots} slots: CPU time, shared to its own", cpu_s[shared] / cpu_s[own], "x")
        for shared, own in zip(ways[::2], ways[1::2], strict=True)
    ]
    return Part(f"{num} pictures, no mixed steps below {MIXED_FROM} requests; median of {num_rounds}", figures)


_INSTRUCTIONS = (("one instruction for all", False), ("each its own", True))


def mixing(folder: Path, small: bool) -> Part:
    """Work with all slots busy, and how long a person waits beside pictures that wait, with mixed steps and without.

    A person's requests arrive at times of their own, in the middle of steps.
    """
    num, num_rounds, count = (48, 1, 2) if small else (192, 8, 25)
    ways = [Way("mixed steps", FULL_SLOTS), Way("steps of their own", FULL_SLOTS, NEVER)]
    cpu_s = _cpu_s(ways, num, num_rounds)
    loaded = _loaded()
    waits: dict[Way, list[float]] = {way: [] for way in ways}
    for number in range(num_rounds):
        for way in ways:
            waits[way] += _interactive(loaded, way, count, seed=number)
    mixed, apart = ways
    limit = 1.1 * percentile(waits[apart], 95)
    return Part(
        f"{FULL_SLOTS} slots, {num} pictures; median of {num_rounds}; a person must not wait 1.1 times as long",
        [
            *(Figure(f"{way.name}: CPU time a picture", cpu_s[way], "s") for way in ways),
            Figure("CPU time, mixed to their own", cpu_s[mixed] / cpu_s[apart], "x"),
            *latencies("a person beside mixed steps, CPU time", waits[mixed], p95=limit),
            *latencies("a person beside steps of their own, CPU time", waits[apart]),
        ],
    )


def _loaded() -> LoadedModel:
    return load_model("garments", device="cpu")


def _cpu_s(ways: Sequence[Way], num: int, num_rounds: int) -> dict[Way, float]:
    """CPU seconds of one picture, of each way the median of its rounds."""
    loaded = _loaded()
    rounds = [[_round(loaded, way, num) for way in ways] for _ in range(num_rounds)]
    return {way: statistics.median(each) for way, each in zip(ways, zip(*rounds, strict=True), strict=True)}


def _round(loaded: LoadedModel, way: Way, num: int) -> float:
    engine = _engine(loaded, way)
    engine.answer(_requests(way.slots, way, first=num))  # what is made once
    requests = _requests(num, way)
    before = time.process_time()
    engine.answer(requests)
    cpu_s = time.process_time() - before
    engine.close()
    return cpu_s / num


def _interactive(loaded: LoadedModel, way: Way, count: int, seed: int) -> list[float]:
    """The CPU time (s) for which each of `count` interactive requests waited, one after the other, all slots busy."""
    engine, chance = _engine(loaded, way), random.Random(seed)
    bulk = 0
    seconds: list[float] = []
    asked_at, asked = time.process_time() + 1.0, False
    while len(seconds) < count:
        if bulk - len(engine.answers) < 2 * way.slots:
            engine.submit(replace(one, request_id=bulk + n) for n, one in enumerate(_requests(way.slots, way)))
            bulk += way.slots
        if not asked and time.process_time() > asked_at:
            [request] = _requests(1, way, first=len(seconds))
            engine.submit([replace(request, request_id=-1, interactive=True)])
            asked = True
        engine.loop.turn()
        if engine.answers.pop(-1, None) is not None:
            seconds.append(time.process_time() - asked_at)
            asked_at, asked = time.process_time() + chance.uniform(0, 2 * PAUSE_S), False
    engine.close()
    return seconds


def _engine(loaded: LoadedModel, way: Way) -> InProcessEngine:
    """A slot more than `way.slots` is for people."""
    options = EngineOptions(model="garments", device="cpu", max_slots=way.slots + max(1, way.slots // 16))
    return InProcessEngine(loaded, options, mixed_from=way.mixed_from)


def _requests(num: int, way: Way, first: int = 0) -> list[Submit]:
    """Greedily. An instruction of its own begins with a number."""
    made = [request_about(number, sampling=Sampling(temperature=0.0)) for number in range(first, first + num)]
    if not way.own_instructions:
        return made
    return [replace(one, instruction=f"{one.request_id} {one.instruction}") for one in made]
