"""More requests at once than are taken: the others must hear so at once, and nothing of them may stay behind.

First all places are held by pictures that never come, so that whoever else asks gets a 503. Then the same number asks
at once, again and again, with pictures that do come: as many as fit are answered. One thread sends them all, so the
times of a burst are those of this program, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import psutil

from backend.settings import Settings
from benchmarks.figures import MEBIBYTE, Figure, Part, latencies
from benchmarks.load_scenes import traffic
from benchmarks.load_scenes.traffic import Reply
from benchmarks.report import wait_until

MAX_REQUESTS = int(Settings.model_fields["max_requests"].default)
LIMIT_503_S = 0.05
LIMIT_BURST_S = LIMIT_HEALTH_S = 1.0
"""The last of a burst waits for all before it, and so does a /health that comes then."""
MAX_MORE = {"memory": 20 * MEBIBYTE, "open files": 4, "threads": 4}
"""What may come and go: kept connections, readers of the store, a pool's threads."""
REPLY_S = 120.0
HEALTH_EVERY_S = 0.05
HELD_S = 1.5
SETTLE_S = 120.0


def run(folder: Path, quick: bool) -> Part:
    num, num_taken, num_rounds, num_probes = (40, 8, 2, 5) if quick else (500, MAX_REQUESTS, 6, 200)
    serving = traffic.serving(folder, predict_deadline_s=4 if quick else 10, max_requests=num_taken)
    held_by_api: list[dict[str, int]] = []
    with traffic.silent_hosts(num_taken) as hosts, serving as (url, pid, pictures):
        asyncio.run(_burst(url, 0, [f"{pictures}/0.png"] * num_taken))  # what is made once is made now
        full, probes = asyncio.run(_while_all_places_are_held(url, hosts, f"{pictures}/1.png", num, num_probes))
        settled, bursts = _settled(url), list[Reply]()
        with traffic.polled(HEALTH_EVERY_S, url, "/health") as healths:
            for number in range(1, num_rounds + 1):
                bursts += asyncio.run(_burst(url, number * num, [f"{pictures}/{n % 100}.png" for n in range(num)]))
                settled = _settled(url) and settled
                held_by_api.append(_held_by(pid))
    told = f"{num_rounds} bursts"
    figures = [
        Figure("all places held: 503", len(_seconds(full, 503))),
        Figure("all places held: neither", num - len(_seconds(full, 503)), "", 0),
        *latencies("all places held: one 503 after the other", _seconds(probes, 503), p99=LIMIT_503_S),
        *latencies(f"all places held: 503 to {num} at once", _seconds(full, 503), p99=LIMIT_BURST_S),
        Figure(f"{told}: 200", len(_seconds(bursts, 200))),
        Figure(f"{told}: 503", len(_seconds(bursts, 503))),
        Figure(f"{told}: neither", sum(reply.status not in (200, 503) for reply in bursts), "", 0),
        *latencies(f"{told}: time to a 503", _seconds(bursts, 503), p99=LIMIT_BURST_S),
        *latencies(f"{told}: time to a 200", _seconds(bursts, 200)),
        *latencies(f"{told}: /health", [reply.seconds for reply in healths], worst=LIMIT_HEALTH_S),
        Figure("503 without Retry-After", sum(_is_silent(reply) for reply in [*full, *probes, *bursts]), "", 0),
        Figure("work left behind", 0 if settled else 1, "", 0),
    ]
    for name, most in MAX_MORE.items():
        unit, first, last = "bytes" if name == "memory" else "", held_by_api[0][name], held_by_api[-1][name]
        figures.append(Figure(f"{name} of the API after the first burst", first, unit))
        figures.append(Figure(f"{name} of the API after the last", last, unit, first + most))
    return Part(f"{num} predicts of one task at once, {num_taken} are taken", figures)


async def _while_all_places_are_held(
    url: str, hosts: list[str], picture: str, num_at_once: int, num_probes: int
) -> tuple[list[Reply], list[Reply]]:
    """A burst, then one request after the other."""
    holders = asyncio.create_task(_burst(url, 100_000, [f"{host}/1.png" for host in hosts]))
    await asyncio.sleep(HELD_S)
    full = await _burst(url, 200_000, [picture] * num_at_once)
    probes = [reply for n in range(num_probes) for reply in await _burst(url, 300_000 + n, [picture])]
    await holders
    return full, probes


async def _burst(url: str, first_id: int, pictures: Sequence[str]) -> list[Reply]:
    """One /predict of one task for each picture, all at once."""
    bodies = [traffic.predict_body(1, [traffic.task(first_id + n, picture)]) for n, picture in enumerate(pictures)]
    return await asyncio.gather(*(traffic.ask(url, "/predict", body, REPLY_S) for body in bodies))


def _seconds(replies: Sequence[Reply], status: int) -> list[float]:
    return [reply.seconds for reply in replies if reply.status == status]


def _is_silent(reply: Reply) -> bool:
    return reply.status == 503 and not reply.retry_after


def _settled(url: str) -> bool:
    """Whether all work came to an end."""
    return wait_until(lambda: traffic.num_waiting(url) == 0, SETTLE_S)


def _held_by(pid: int) -> dict[str, int]:
    api = psutil.Process(pid)
    return {"memory": api.memory_info().rss, "open files": api.num_fds(), "threads": api.num_threads()}
