"""The engine against transformers alone, on a CPU with the built-in model: `python -m benchmarks.engine [--json FILE]`.

The same Fashion-MNIST test pictures, prompt, grammar and greedy choice. Parts:
throughput   (a) `generate()` one by one, (b) `generate()` in static batches of 16, and the engine's own process at
             several slot counts; (a) and (b) from packed 4-bit weights, as transformers and bitsandbytes do, and from
             the unpacked ones that the engine keeps of a small model on a CPU
memory       the KV cache that a request takes while all slots are busy: one piece for its prompt and longest answer, as
             many engines reserve it, and blocks that grow, those of the instruction shared
interactive  the latency of a person's request, alone and beside a bulk load
sharing      the work at several slot counts with one instruction for all requests, and with one each
mixing       the work at 32 slots, and the latency of a person's request there, with mixed steps and without
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from backend.engine.cache import kv_bytes_per_position
from backend.engine.client import EngineClient
from backend.engine.kv_blocks import BLOCK_TOKENS, blocks_for
from backend.engine.messages import GenerateRequest, Sampling, Submit
from backend.engine.options import EngineOptions
from benchmarks.generate_baseline import GenerateBaseline
from benchmarks.in_process import InProcessEngine
from benchmarks.mixing import mixing, sharing
from benchmarks.pictures import request_about
from benchmarks.report import Figure, Measure, Part, latencies, measure_parts, percentile, use_threads
from model_loader.experts.unpacked import drop_unpacked
from model_loader.loader import load_model

STATIC_BATCH = 16
INTERACTIVE_SLOTS = 16
READY_S = 120.0
PAUSE_S = 0.05  # between two interactive requests
BULK_AHEAD_S = 1.0


@dataclass(frozen=True, slots=True)
class Timed:
    """One way, once. `each_s`: from submitting a picture to its answer; `answers` by picture."""

    name: str
    seconds: float
    each_s: list[float]
    answers: dict[int, tuple[bytes, ...]]

    @property
    def images_per_s(self) -> float:
        return len(self.answers) / self.seconds


def throughput(folder: Path, small: bool) -> Part:
    """Every way in each round; the round with the median speed counts, and answers must be the same in all."""
    num, num_one_by_one, slot_counts, num_rounds = (16, 4, [1, 16], 1) if small else (192, 24, [1, 8, 16, 32], 3)
    requests = _requests(num)
    rounds = [_round(requests, requests[:num_one_by_one], slot_counts) for _ in range(num_rounds)]
    ways = [sorted(same, key=lambda timed: timed.images_per_s) for same in zip(*rounds, strict=True)]
    medians = [timed[len(timed) // 2] for timed in ways]
    expected = medians[1].answers | medians[0].answers  # those of (a) as far as it went
    figures = [Figure("tokens an answer", statistics.mean(map(len, expected.values())))]
    for way, median in zip(ways, medians, strict=True):
        others = sum(timed.answers[number] != expected[number] for timed in way for number in timed.answers)
        figures += [
            Figure(f"{median.name}: speed", median.images_per_s, "images/s"),
            Figure(f"{median.name}: to (a)", median.images_per_s / medians[0].images_per_s, "x"),
            Figure(f"{median.name}: to (b)", median.images_per_s / medians[1].images_per_s, "x"),
            Figure(f"{median.name}: latency p50", percentile(median.each_s, 50), "s"),
            Figure(f"{median.name}: latency p95", percentile(median.each_s, 95), "s"),
            Figure(f"{median.name}: other answers than (a), (b)", others, "", 0),
        ]
    return Part(f"{num} pictures ({num_one_by_one} one by one), greedily; median of {num_rounds}", figures)


def _round(requests: Sequence[Submit], few: Sequence[Submit], slot_counts: Sequence[int]) -> list[Timed]:
    ways: list[Timed] = []
    for weights, packed in (("", True), (", unpacked weights", False)):
        ways.append(time_generate(f"(a) one by one{weights}", few, 1, packed=packed))
        ways.append(time_generate(f"(b) batches of {STATIC_BATCH}{weights}", requests, STATIC_BATCH, packed=packed))
    return ways + [asyncio.run(time_engine(slots, requests)) for slots in slot_counts]


def time_generate(name: str, requests: Sequence[Submit], batch: int, *, packed: bool) -> Timed:
    """Time `generate()` over `requests` in batches; a picture's latency is that of its batch."""
    loaded = load_model("garments", device="cpu")
    if packed:
        drop_unpacked(loaded.model)
    baseline = GenerateBaseline(loaded, image_tokens=256)
    baseline.answer(requests[:2])
    answers: dict[int, tuple[bytes, ...]] = {}
    each_s: list[float] = []
    started = time.perf_counter()
    for first in range(0, len(requests), batch):
        at = time.perf_counter()
        part = baseline.answer(requests[first : first + batch])
        each_s += [time.perf_counter() - at] * len(part)
        answers.update((answer.request_id, answer.pieces) for answer in part)
    return Timed(name, time.perf_counter() - started, each_s, answers)


async def time_engine(slots: int, requests: Sequence[Submit]) -> Timed:
    """Time the engine's process with twice as many pictures under way as it has slots, as the backend keeps them."""
    in_flight = asyncio.Semaphore(2 * slots)
    each_s: list[float] = []
    answers: dict[int, tuple[bytes, ...]] = {}

    async def one(request: Submit) -> None:
        async with in_flight:
            at = time.perf_counter()
            answers[request.request_id] = (await client.generate(_plain(request))).pieces
            each_s.append(time.perf_counter() - at)

    async with _started(slots) as client:
        await asyncio.gather(*(client.generate(_plain(request)) for request in requests[:slots]))
        started = time.perf_counter()
        await asyncio.gather(*map(one, requests))
        return Timed(f"engine, {slots} slots", time.perf_counter() - started, each_s, answers)


def memory(folder: Path, small: bool) -> Part:
    """In this process: the loop's own count of positions in use, at its largest."""
    loaded = load_model("garments", device="cpu")
    engine = InProcessEngine(loaded, EngineOptions(max_slots=INTERACTIVE_SLOTS))
    requests = _requests(32 if small else 96)
    prompts = [engine.runner.prompts.encode(request) for request in requests]
    engine.answer(requests)
    engine.close()
    position_bytes = kv_bytes_per_position(loaded.model.config.text_config, loaded.dtype)
    lengths = [p.num_tokens + r.sampling.max_new_tokens for p, r in zip(prompts, requests, strict=True)]
    most = max((stats for _, stats in engine.stats), key=lambda stats: stats.num_kv_tokens)
    whole = statistics.mean(blocks_for(length) * BLOCK_TOKENS for length in lengths)
    shared = most.num_kv_tokens / most.num_running
    instruction = statistics.mean(len(prompt.shared_ids) for prompt in prompts)
    figures = [
        Figure("one piece for each request", whole * position_bytes / 1024, "KiB"),
        Figure("blocks, the instruction's with them, a request", shared * position_bytes / 1024, "KiB"),
        Figure("one piece to blocks", whole / shared, "x"),
        Figure("requests at once", most.num_running),
        Figure("put back", engine.stats[-1][1].num_put_back),
    ]
    return Part(f"{len(requests)} pictures, an instruction of {instruction:.0f} tokens in whole blocks", figures)


def interactive(folder: Path, small: bool) -> Part:
    """A person's requests alone, then beside pictures that wait for the same engine."""
    count, num_bulk = (3, 200) if small else (60, 1000)
    figures = asyncio.run(_interactive(_requests(16 if small else 192), count, num_bulk))
    return Part(f"{INTERACTIVE_SLOTS} slots, {num_bulk:,} waiting pictures; limit 1.5 x alone + one prefill", figures)


async def _interactive(requests: Sequence[Submit], count: int, num_bulk: int) -> list[Figure]:
    async def one_after_the_other() -> list[float]:
        seconds: list[float] = []
        for n in range(count):
            at = time.perf_counter()
            await client.generate(_plain(requests[n % len(requests)], interactive=True))
            seconds.append(time.perf_counter() - at)
            await asyncio.sleep(PAUSE_S)
        return seconds

    async with _started(INTERACTIVE_SLOTS, num_bulk + count + len(requests)) as client:
        while not (stats := client.status.stats).num_prefills:  # told once a second, while there is work
            await asyncio.gather(*(client.generate(_plain(request)) for request in requests))
        await one_after_the_other()
        alone = await one_after_the_other()
        load = [asyncio.create_task(client.generate(_plain(requests[n % len(requests)]))) for n in range(num_bulk)]
        await asyncio.sleep(BULK_AHEAD_S)
        beside = await one_after_the_other()
        if all(task.done() for task in load):
            raise RuntimeError("the bulk load ended before the interactive requests")
        for task in load:
            task.cancel()
        await asyncio.gather(*load, return_exceptions=True)
    prefill_s = stats.prefill_s / max(1, stats.num_prefills)  # of bulk work, which nothing can interrupt
    return [
        *latencies("alone", alone),
        *latencies("beside the waiting pictures", beside, p95=1.5 * percentile(alone, 95) + prefill_s),
        Figure("one bulk prefill", prefill_s, "s"),
    ]


def _requests(num: int) -> list[Submit]:
    """Greedily: the answers can be compared."""
    return [request_about(number, sampling=Sampling(temperature=0.0)) for number in range(num)]


@asynccontextmanager
async def _started(slots: int, max_queue: int = 4096) -> AsyncIterator[EngineClient]:
    client = EngineClient(EngineOptions(model="garments", device="cpu", max_slots=slots, max_queue=max_queue))
    await client.start()
    try:
        await client.wait_ready(READY_S)
        yield client
    finally:
        await client.close()


def _plain(request: Submit, *, interactive: bool = False) -> GenerateRequest:
    asked = {field.name: getattr(request, field.name) for field in fields(GenerateRequest)}
    return GenerateRequest(**{**asked, "interactive": interactive})


PARTS: dict[str, Measure] = {
    "throughput": throughput,
    "memory": memory,
    "interactive": interactive,
    "sharing": sharing,
    "mixing": mixing,
}


def main(arguments: Sequence[str] | None = None) -> int:
    use_threads(1)
    return measure_parts(__doc__, PARTS, arguments)


if __name__ == "__main__":
    sys.exit(main())
