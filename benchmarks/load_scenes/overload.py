"""More requests at once than are taken: the others must hear so at once, and nothing of them may stay behind.

First all places are held by pictures that never come, so that whoever else asks gets a 503. Then the same number asks
at once, again and again, with pictures that do come: as many as fit are answered. Each request has a connection of its
own. One thread sends them all, so the times of a burst are those of this program, too.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from backend.commands.demo.local_backend import LocalBackend, running_backend
from backend.settings import Settings
from benchmarks.load_scenes import traffic
from benchmarks.load_scenes.figures import MEBIBYTE, Figure, SceneReport, latencies
from benchmarks.load_scenes.traffic import Reply
from benchmarks.pictures import picture_server
from label_config.ready_made import ready_made

MAX_REQUESTS = int(Settings.model_fields["max_requests"].default)
LIMIT_503_S = 0.05
LIMIT_BURST_S = LIMIT_HEALTH_S = 1.0
"""The last of a burst waits for all before it, and so does a /health that comes then."""
MAX_GROWTH_BYTES = 20 * MEBIBYTE
MAX_MORE = 4
"""Open files and threads that may come and go: kept connections, readers of the store, a pool's threads."""
REPLY_S = 120.0
HEALTH_EVERY_S = 0.05
SETTLE_S = 120.0
CONFIG = ready_made("garments.zh")


@dataclass(frozen=True, slots=True)
class Burst:
    """Requests sent at once, and what came back."""

    replies: list[Reply]

    def seconds(self, status: int) -> list[float]:
        return [reply.seconds for reply in self.replies if reply.status == status]

    @property
    def num_silent(self) -> int:
        """503 without Retry-After."""
        return sum(reply.status == 503 and not reply.retry_after for reply in self.replies)

    @property
    def num_other(self) -> int:
        return sum(reply.status not in (200, 503) for reply in self.replies)


def run(folder: Path, quick: bool) -> SceneReport:
    num_at_once, num_taken, num_rounds, num_probes = (40, 8, 2, 5) if quick else (500, MAX_REQUESTS, 6, 200)
    settings = {
        **traffic.SETTINGS,
        "PRELABEL_PREDICT_DEADLINE_S": "4" if quick else "10",
        "PRELABEL_MAX_REQUESTS": str(num_taken),
    }
    with (
        picture_server(100) as pictures,
        traffic.silent_hosts(num_taken) as hosts,
        running_backend(folder, settings) as backend,
    ):
        backend.wait_until_ready()
        burst(backend.url, _bodies(0, [f"{pictures}/0.png"] * num_taken))  # what is made once is made now
        held = asyncio.run(_held(backend.url, hosts, pictures, num_at_once, num_probes))
        settled = _settled(backend)
        rounds: list[Burst] = []
        after_first = before = traffic.holdings(backend.process.pid)
        with traffic.polled(lambda: traffic.call(backend.url, "/health"), HEALTH_EVERY_S) as healths:
            for number in range(1, num_rounds + 1):
                urls = [f"{pictures}/{n % 100}.png" for n in range(num_at_once)]
                rounds.append(burst(backend.url, _bodies(number * num_at_once, urls)))
                settled = _settled(backend) and settled
                if number == 1:
                    after_first = traffic.holdings(backend.process.pid)
        after = traffic.holdings(backend.process.pid)
    together = Burst([reply for burst in rounds for reply in burst.replies])
    full, probes = held
    figures = [
        Figure("all places held: 503", len(full.seconds(503))),
        Figure("all places held: neither", num_at_once - len(full.seconds(503)), "", 0),
        *latencies("all places held: one 503 after the other", probes.seconds(503), p99=LIMIT_503_S),
        *latencies(f"all places held: 503 to {num_at_once} at once", full.seconds(503), p99=LIMIT_BURST_S),
        Figure(f"{num_rounds} bursts: 200", len(together.seconds(200))),
        Figure(f"{num_rounds} bursts: 503", len(together.seconds(503))),
        Figure(f"{num_rounds} bursts: neither", together.num_other, "", 0),
        *latencies(f"{num_rounds} bursts: time to a 503", together.seconds(503), p99=LIMIT_BURST_S),
        *latencies(f"{num_rounds} bursts: time to a 200", together.seconds(200)),
        *latencies(f"{num_rounds} bursts: /health", [reply.seconds for reply in healths], worst=LIMIT_HEALTH_S),
        Figure("503 without Retry-After", full.num_silent + probes.num_silent + together.num_silent, "", 0),
        Figure("memory of the API before", before.rss_bytes, "bytes"),
        Figure("memory of the API after the first burst", after_first.rss_bytes, "bytes"),
        Figure("memory of the API after the last", after.rss_bytes, "bytes"),
        Figure("the bursts after the first added", after.rss_bytes - after_first.rss_bytes, "bytes", MAX_GROWTH_BYTES),
        Figure("open files before", before.num_files),
        Figure("open files after the first burst", after_first.num_files),
        Figure("open files after the last", after.num_files, "", after_first.num_files + MAX_MORE),
        Figure("threads before", before.num_threads),
        Figure("threads after the first burst", after_first.num_threads),
        Figure("threads after the last", after.num_threads, "", after_first.num_threads + MAX_MORE),
        Figure("work left behind", 0 if settled else 1, "", 0),
    ]
    about = f"{num_at_once} predicts of one task at once, {num_taken} are taken"
    return SceneReport("overload", about, tuple(figures))


def burst(url: str, bodies: list[bytes]) -> Burst:
    return asyncio.run(_burst(url, bodies))


async def _held(url: str, hosts: list[str], pictures: str, num_at_once: int, num_probes: int) -> tuple[Burst, Burst]:
    """While every place is held: a burst, then one request after the other."""
    holders = asyncio.create_task(_burst(url, _bodies(100_000, [f"{host}/1.png" for host in hosts])))
    await asyncio.sleep(1.5)
    full = await _burst(url, _bodies(200_000, [f"{pictures}/1.png"] * num_at_once))
    probes = [await _predict(url, body) for body in _bodies(300_000, [f"{pictures}/1.png"] * num_probes)]
    await holders
    return full, Burst(probes)


async def _burst(url: str, bodies: list[bytes]) -> Burst:
    return Burst(list(await asyncio.gather(*(_predict(url, body) for body in bodies))))


async def _predict(url: str, body: bytes) -> Reply:
    """One /predict by hand: a client library would take longer than the server. From connecting to the last byte."""
    host, _, port = url.removeprefix("http://").partition(":")
    started = time.perf_counter()
    try:
        async with asyncio.timeout(REPLY_S):
            reader, writer = await asyncio.open_connection(host, int(port))
            head = f"POST /predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode() + body)
            received = await reader.read()
            seconds = time.perf_counter() - started
            writer.close()
    except (OSError, TimeoutError):
        return Reply(0, time.perf_counter() - started)
    header, _, content = received.partition(b"\r\n\r\n")
    first, *lines = header.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    status = first.split(" ")[1:2]
    return Reply(int(status[0]) if status else 0, seconds, content, fields.get("retry-after"))


def _bodies(first_id: int, urls: list[str]) -> list[bytes]:
    return [traffic.predict_body(1, CONFIG, [traffic.task(first_id + n, url)]) for n, url in enumerate(urls)]


def _settled(backend: LocalBackend) -> bool:
    """Whether all work and all connections came to an end."""
    return traffic.wait_until(lambda: traffic.num_waiting(backend.url) == 0, SETTLE_S)
