"""The engine against transformers alone, on a CPU with the built-in model: `python -m benchmarks.engine [--json FILE]`.

The same Fashion-MNIST test pictures, prompt, grammar and greedy choice through (a) `generate()` one by one, (b)
`generate()` in static batches of 16, (c) the engine's own process at several slot counts; then the latency of an
interactive request, alone and beside a bulk load. (a) and (b) run twice: from packed 4-bit weights, as transformers and
bitsandbytes do, and from the unpacked ones that the engine keeps of a small model on a CPU. `--quick` takes a minute.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, fields, replace

from backend.engine.client import EngineClient
from backend.engine.messages import GenerateRequest, Sampling, Submit
from backend.engine.options import EngineOptions
from benchmarks.figures import Figure, latencies, print_figures
from benchmarks.generate_baseline import GenerateBaseline
from benchmarks.pictures import request_about
from benchmarks.report import hardware, options, percentile, print_table, use_threads, write_json
from model_loader.experts.unpacked import drop_unpacked
from model_loader.loader import load_model

STATIC_BATCH = 16
INTERACTIVE_SLOTS = 16
READY_S = 120.0
PAUSE_S = 0.05  # between two interactive requests
BULK_AHEAD_S = 1.0

Answers = dict[int, tuple[bytes, ...]]


@dataclass(frozen=True, slots=True)
class Throughput:
    """One row of the table; latencies are from submitting a picture to its answer."""

    name: str
    images: int
    images_per_s: float
    latency_p50_s: float
    latency_p95_s: float
    same_answers: int


def measure_round(
    requests: Sequence[Submit], few: Sequence[Submit], slot_counts: Sequence[int], expected: Answers
) -> tuple[list[Throughput], Answers]:
    """Every row of the table once. `expected`: answers known so far; returned with those of this round added."""
    rows: list[Throughput] = []
    for weights, packed in (("", True), (", unpacked weights", False)):
        for name, part, batch in (("one by one", few, 1), (f"batches of {STATIC_BATCH}", requests, STATIC_BATCH)):
            told = f"({'a' if batch == 1 else 'b'}) {name}{weights}"
            row, answers = measure_generate(told, part, batch, expected, packed=packed)
            rows.append(row)
            expected = answers | expected  # those of (a) as far as it went: what transformers says one by one
    rows += [asyncio.run(measure_engine(slots, requests, expected)) for slots in slot_counts]
    return rows, expected


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
    seconds: list[float] = []
    started = time.perf_counter()
    for first in range(0, len(requests), batch):
        at = time.perf_counter()
        part = baseline.answer(requests[first : first + batch])
        seconds += [time.perf_counter() - at] * len(part)
        answers.update((answer.request_id, answer.pieces) for answer in part)
    return _throughput(name, answers, seconds, time.perf_counter() - started, expected or answers), answers


async def measure_engine(slots: int, requests: Sequence[Submit], expected: Answers) -> Throughput:
    """Time the engine's process with twice as many pictures under way as it has slots, as the backend keeps them."""
    in_flight = asyncio.Semaphore(2 * slots)
    seconds: list[float] = []
    answers: Answers = {}

    async def one(request: Submit) -> None:
        async with in_flight:
            at = time.perf_counter()
            answers[request.request_id] = (await client.generate(_plain(request))).pieces
            seconds.append(time.perf_counter() - at)

    async with _started(slots) as client:
        await asyncio.gather(*(client.generate(_plain(request)) for request in requests[:slots]))
        started = time.perf_counter()
        await asyncio.gather(*map(one, requests))
        return _throughput(f"engine, {slots} slots", answers, seconds, time.perf_counter() - started, expected)


async def measure_latency(requests: Sequence[Submit], count: int, bulk: int) -> list[Figure]:
    """Time `count` interactive requests alone, then beside `bulk` pictures that wait for the same engine."""

    async def one_after_the_other() -> list[float]:
        seconds: list[float] = []
        for n in range(count):
            at = time.perf_counter()
            await client.generate(_plain(requests[n % len(requests)], interactive=True))
            seconds.append(time.perf_counter() - at)
            await asyncio.sleep(PAUSE_S)
        return seconds

    async with _started(INTERACTIVE_SLOTS, bulk + count + len(requests)) as client:
        while not (stats := client.status.stats).num_prefills:  # told once a second, while there is work
            await asyncio.gather(*(client.generate(_plain(request)) for request in requests))
        await one_after_the_other()
        alone = await one_after_the_other()
        load = [asyncio.create_task(client.generate(_plain(requests[n % len(requests)]))) for n in range(bulk)]
        await asyncio.sleep(BULK_AHEAD_S)
        beside = await one_after_the_other()
        if all(task.done() for task in load):
            raise RuntimeError("the bulk load ended before the interactive requests: give it more images")
        for task in load:
            task.cancel()
        await asyncio.gather(*load, return_exceptions=True)
    prefill_s = stats.prefill_s / max(1, stats.num_prefills)  # of bulk work, which nothing can interrupt
    limit_s = 1.5 * percentile(alone, 0.95) + prefill_s
    return [
        *latencies("alone", alone),
        *latencies(f"beside {bulk:,} waiting pictures", beside, p95=limit_s),
        Figure("one bulk prefill", prefill_s, "s"),
    ]


def median(rows: Sequence[Throughput]) -> Throughput:
    """The row with the median speed; all its figures are of that round. The answers must be right in every round."""
    middle = sorted(rows, key=lambda row: row.images_per_s)[len(rows) // 2]
    return replace(middle, same_answers=min(row.same_answers for row in rows))


def _throughput(name: str, answers: Answers, each_s: list[float], seconds: float, expected: Answers) -> Throughput:
    same = sum(pieces == expected.get(request_id, pieces) for request_id, pieces in answers.items())
    speed = len(answers) / seconds
    return Throughput(name, len(answers), speed, percentile(each_s, 0.5), percentile(each_s, 0.95), same)


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


def _cells(row: Throughput, one: float, static: float) -> list[str]:
    speed, seconds = row.images_per_s, (f"{row.latency_p50_s:.2f}", f"{row.latency_p95_s:.2f}")
    told = [f"{speed:.1f}", *seconds, f"{speed / one:.1f}x", f"{speed / static:.1f}x"]
    return [row.name, str(row.images), *told, f"{row.same_answers} of {row.images}"]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--images", type=int, default=192, help="pictures for static batches and the engine")
    parser.add_argument("--one-by-one", type=int, default=24, help="pictures for generate() one by one")
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 8, 16, 32])
    parser.add_argument("--interactive", type=int, default=60, help="interactive requests")
    parser.add_argument("--bulk", type=int, default=1000, help="pictures waiting beside them")
    parser.add_argument("--rounds", type=int, default=3, help="measure everything so often; the median counts")
    parser.add_argument("--threads", type=int, default=1, help="torch threads, for all of them")
    parser.add_argument("--quick", action="store_true", help="few pictures: to see that it works")
    args = parser.parse_args(arguments)
    if args.quick:
        args.images, args.one_by_one, args.slots, args.interactive, args.bulk, args.rounds = 16, 4, [1, 16], 3, 200, 1
    use_threads(args.threads)
    # greedily: the answers can be compared
    requests = [request_about(number, sampling=Sampling(temperature=0.0)) for number in range(args.images)]
    expected: Answers = {}
    rounds: list[list[Throughput]] = []
    for _ in range(args.rounds):
        rows, expected = measure_round(requests, requests[: args.one_by_one], args.slots, expected)
        rounds.append(rows)
    rows = [median(same_row) for same_row in zip(*rounds, strict=True)]
    interactive = asyncio.run(measure_latency(requests, args.interactive, args.bulk))
    about = "garments in 4 bits, label config garments.zh, greedy, 16 image tokens"
    print(f"\n{hardware()}, torch threads: {args.threads}; {about}; median of {args.rounds}\n")
    header = ["", "images", "images/s", "p50 s", "p95 s", "vs (a)", "vs (b)", "same answers"]
    print_table(header, [_cells(row, rows[0].images_per_s, rows[1].images_per_s) for row in rows])
    print(f"\nAn interactive request, {INTERACTIVE_SLOTS} slots; the limit is 1.5 x alone + one prefill:")
    print_figures(interactive)
    if args.json:
        figures = {
            "about": about,
            "answer_tokens": sum(map(len, expected.values())) / len(expected),
            "torch_threads": args.threads,
            "rounds": args.rounds,
            "throughput": [asdict(row) for row in rows],
            "interactive": {figure.name: figure.document() for figure in interactive},
        }
        write_json(args.json, figures)


if __name__ == "__main__":
    main()
