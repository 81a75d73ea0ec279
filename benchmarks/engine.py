"""The engine against transformers alone, on a CPU with the built-in model: `python -m benchmarks.engine [--json FILE]`.

The same Fashion-MNIST test pictures, prompt, grammar and greedy choice through (a) `generate()` one by one, (b)
`generate()` in static batches of 16, (c) the engine's own process at several slot counts; then the latency of an
interactive request, alone and beside a bulk load. (a) and (b) run twice: from packed 4-bit weights, as transformers and
bitsandbytes do, and from the unpacked ones that the engine keeps of a small model on a CPU. `--quick` takes a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch

from backend.engine.client import EngineClient
from backend.engine.messages import GenerateRequest, Sampling, Submit
from backend.engine.options import EngineOptions
from benchmarks.garments import request_about
from benchmarks.generate_baseline import GenerateBaseline
from benchmarks.report import hardware, percentile, print_table, write_json
from model_loader.experts.unpacked import drop_unpacked
from model_loader.loader import load_model
from training import dataset
from training.variants import shipped_schema

STATIC_BATCH = 16
READY_S = 120.0
PAUSE_S = 0.05  # between two interactive requests


@dataclass(frozen=True, slots=True)
class Throughput:
    """One row of the table; latencies are from submitting a picture to its answer."""

    name: str
    images: int
    images_per_s: float
    latency_p50_s: float
    latency_p95_s: float
    same_answers: int


@dataclass(frozen=True, slots=True)
class Latency:
    """Interactive requests, one after the other. `prefill_s`: one prefill of bulk work, which nothing can interrupt."""

    slots: int
    bulk_images: int
    idle_p50_s: float
    idle_p95_s: float
    loaded_p50_s: float
    loaded_p95_s: float
    prefill_s: float

    @property
    def limit_s(self) -> float:
        return 1.5 * self.idle_p95_s + self.prefill_s


def garments_requests(count: int) -> list[Submit]:
    """The first `count` test pictures, asked about as the backend does, but greedily: the answers can be compared."""
    pictures, _ = dataset.read_split(dataset.DEFAULT_FOLDER, "t10k")
    schema, greedy = shipped_schema("zh"), Sampling(temperature=0.0)
    return [request_about(schema, number, picture, greedy) for number, picture in enumerate(pictures[:count])]


def measure_generate(
    name: str, requests: Sequence[Submit], batch: int, expected: Answers, *, packed: bool
) -> tuple[Throughput, Answers]:
    """Time `generate()` over `requests` in batches; a picture's latency is that of its batch."""
    loaded = load_model("garments", device="cpu")
    if packed:
        drop_unpacked(loaded.model)
    baseline = GenerateBaseline(loaded, image_tokens=256)
    baseline.answer(requests[:2])
    answers: Answers = {}
    latencies: list[float] = []
    started = time.perf_counter()
    for first in range(0, len(requests), batch):
        at = time.perf_counter()
        part = baseline.answer(requests[first : first + batch])
        latencies += [time.perf_counter() - at] * len(part)
        answers.update((answer.request_id, answer.pieces) for answer in part)
    return _throughput(name, answers, latencies, time.perf_counter() - started, expected or answers), answers


async def measure_engine(slots: int, requests: Sequence[Submit], expected: Answers) -> Throughput:
    """Time the engine's process with twice as many pictures under way as it has slots, as the backend keeps them."""
    client = await _start(slots)
    await asyncio.gather(*(client.generate(_plain(request)) for request in requests[:slots]))
    in_flight = asyncio.Semaphore(2 * slots)
    latencies: list[float] = []
    answers: Answers = {}

    async def one(request: Submit) -> None:
        async with in_flight:
            at = time.perf_counter()
            finished = await client.generate(_plain(request))
            latencies.append(time.perf_counter() - at)
            answers[request.request_id] = finished.pieces

    started = time.perf_counter()
    await asyncio.gather(*map(one, requests))
    seconds = time.perf_counter() - started
    await client.close()
    return _throughput(f"engine, {slots} slots", answers, latencies, seconds, expected)


def measure_round(
    requests: Sequence[Submit], few: Sequence[Submit], slot_counts: Sequence[int], expected: Answers
) -> tuple[list[Throughput], Answers]:
    """Every row of the table once. `expected`: answers known so far; returned with those of this round added."""
    rows: list[Throughput] = []
    for weights, packed in (("", True), (", unpacked weights", False)):
        for name, part, batch in (
            ("(a) one by one", few, 1),
            (f"(b) batches of {STATIC_BATCH}", requests, STATIC_BATCH),
        ):
            row, answers = measure_generate(name + weights, part, batch, expected, packed=packed)
            rows.append(row)
            expected = answers | expected  # those of (a) as far as it went: what transformers says one by one
    rows += [asyncio.run(measure_engine(slots, requests, expected)) for slots in slot_counts]
    return rows, expected


def median(rows: Sequence[Throughput]) -> Throughput:
    """The row with the median speed; all its figures are of that round. The answers must be right in every round."""
    middle = sorted(rows, key=lambda row: row.images_per_s)[len(rows) // 2]
    return replace(middle, same_answers=min(row.same_answers for row in rows))


async def measure_latency(slots: int, requests: Sequence[Submit], count: int, bulk: int) -> Latency:
    """Time `count` interactive requests alone, then beside `bulk` pictures that wait for the same engine."""
    client = await _start(slots, max_queue=bulk + count + len(requests))

    async def one_after_the_other() -> list[float]:
        seconds: list[float] = []
        for n in range(count):
            at = time.perf_counter()
            await client.generate(_plain(requests[n % len(requests)], interactive=True))
            seconds.append(time.perf_counter() - at)
            await asyncio.sleep(PAUSE_S)
        return seconds

    await asyncio.gather(*(client.generate(_plain(request)) for request in requests))
    bulk_stats = client.status.stats
    await one_after_the_other()
    idle = await one_after_the_other()
    load = [asyncio.create_task(client.generate(_plain(requests[n % len(requests)]))) for n in range(bulk)]
    await asyncio.sleep(1.0)
    loaded = await one_after_the_other()
    if all(task.done() for task in load):
        raise RuntimeError("the bulk load ended before the interactive requests: give it more images")
    for task in load:
        task.cancel()
    await asyncio.gather(*load, return_exceptions=True)
    await client.close()
    return Latency(
        slots=slots,
        bulk_images=bulk,
        idle_p50_s=percentile(idle, 0.5),
        idle_p95_s=percentile(idle, 0.95),
        loaded_p50_s=percentile(loaded, 0.5),
        loaded_p95_s=percentile(loaded, 0.95),
        prefill_s=bulk_stats.prefill_s / max(1, bulk_stats.num_prefills),
    )


Answers = dict[int, tuple[bytes, ...]]


def _throughput(name: str, answers: Answers, latencies: list[float], seconds: float, expected: Answers) -> Throughput:
    same = sum(pieces == expected.get(request_id, pieces) for request_id, pieces in answers.items())
    speed = len(answers) / seconds
    return Throughput(name, len(answers), speed, percentile(latencies, 0.5), percentile(latencies, 0.95), same)


async def _start(slots: int, max_queue: int = 4096) -> EngineClient:
    client = EngineClient(EngineOptions(model="garments", device="cpu", max_slots=slots, max_queue=max_queue))
    await client.start()
    await client.wait_ready(READY_S)
    return client


def _plain(request: Submit, *, interactive: bool = False) -> GenerateRequest:
    asked = {field.name: getattr(request, field.name) for field in fields(GenerateRequest)}
    return GenerateRequest(**{**asked, "interactive": interactive})


def print_results(rows: Sequence[Throughput], latency: Latency) -> None:
    one, static = rows[0].images_per_s, rows[1].images_per_s
    print_table(
        ["", "images", "images/s", "p50 s", "p95 s", "vs (a)", "vs (b)", "same answers"],
        [
            [
                row.name,
                str(row.images),
                f"{row.images_per_s:.1f}",
                f"{row.latency_p50_s:.2f}",
                f"{row.latency_p95_s:.2f}",
                f"{row.images_per_s / one:.1f}x",
                f"{row.images_per_s / static:.1f}x",
                f"{row.same_answers} of {row.images}",
            ]
            for row in rows
        ],
    )
    print(f"\nAn interactive request, {latency.slots} slots:")
    print_table(
        ["", "p50 ms", "p95 ms"],
        [
            ["alone", f"{latency.idle_p50_s * 1e3:.0f}", f"{latency.idle_p95_s * 1e3:.0f}"],
            [
                f"beside {latency.bulk_images} waiting pictures",
                f"{latency.loaded_p50_s * 1e3:.0f}",
                f"{latency.loaded_p95_s * 1e3:.0f}",
            ],
            ["limit: 1.5 x alone + one prefill", "", f"{latency.limit_s * 1e3:.0f}"],
        ],
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=192, help="pictures for static batches and the engine")
    parser.add_argument("--one-by-one", type=int, default=24, help="pictures for generate() one by one")
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 8, 16, 32])
    parser.add_argument("--interactive", type=int, default=60, help="interactive requests")
    parser.add_argument("--bulk", type=int, default=1000, help="pictures waiting beside them")
    parser.add_argument("--rounds", type=int, default=3, help="measure everything so often; the median counts")
    parser.add_argument("--threads", type=int, default=1, help="torch threads, for all of them")
    parser.add_argument("--quick", action="store_true", help="few pictures: to see that it works")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args(arguments)
    if args.quick:
        args.images, args.one_by_one, args.slots, args.interactive, args.bulk = 16, 4, [1, 16], 3, 200
        args.rounds = 1
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # for the engine's process
    torch.set_num_threads(args.threads)
    requests = garments_requests(args.images)
    few = requests[: args.one_by_one]
    expected: Answers = {}
    rounds: list[list[Throughput]] = []
    for _ in range(args.rounds):
        rows, expected = measure_round(requests, few, args.slots, expected)
        rounds.append(rows)
    rows = [median(same_row) for same_row in zip(*rounds, strict=True)]
    latency = asyncio.run(measure_latency(16, requests, args.interactive, args.bulk))
    print(
        f"\n{hardware()}, torch threads: {args.threads}; garments in 4 bits, 16 image tokens; median of {args.rounds}\n"
    )
    print_results(rows, latency)
    if args.json:
        write_json(
            args.json,
            {
                "model": "garments, nf4, label config garments.zh, greedy",
                "image_tokens": 16,
                "answer_tokens": sum(map(len, expected.values())) / len(expected),
                "torch_threads": args.threads,
                "rounds": args.rounds,
                "throughput": [asdict(row) for row in rows],
                "interactive": {**asdict(latency), "limit_s": latency.limit_s},
            },
        )


if __name__ == "__main__":
    main()
