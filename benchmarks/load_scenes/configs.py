"""Whether a project waits for what other projects' label configs cost: 50 clients tell hostile label configs, no two
alike and each for a project of its own, as fast as they can, while an innocent one asks /setup, /predict and /health,
and another changes its label config with each /setup.

The hostile ones have a process of their own: their work is not to be taken for the server's. Label Studio gives /health
1 s and /setup 3 s.
"""

from __future__ import annotations

import json
import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count, repeat
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.load_scenes import traffic
from benchmarks.load_scenes.traffic import CONFIG, Reply, polled
from benchmarks.report import Figure, Part, latencies

NUM_HOSTILE = 50
HEALTH_EVERY_S, OTHERS_EVERY_S = 0.03, 0.2
NEW_EVERY_S = 1.0
LIMIT_S = 1.0
NEW_LIMIT_S = 3.0
HOSTILE_WAITS_S = 60.0
SHORT, LONG = 4_000, 250_000
NEW = "/setup with a new label config"


def run(folder: Path, small: bool) -> Part:
    seconds = 2.0 if small else 20.0
    with traffic.serving(folder) as (url, pictures):
        setup = _setup_body(1, CONFIG)
        news = (_setup_body(2, f"<!-- {number} -->{CONFIG}") for number in count())
        predict = traffic.predict_body(1, [traffic.task(1, f"{pictures}/1.png")])
        traffic.call(url, "/setup", setup)
        traffic.call(url, "/predict", predict)
        replies: dict[str, list[Reply]] = {}
        with ExitStack() as stack:
            hostile = stack.enter_context(_attacked(url))
            replies["/health"] = stack.enter_context(polled(HEALTH_EVERY_S, url, "/health"))
            replies["/setup"] = stack.enter_context(polled(OTHERS_EVERY_S, url, "/setup", repeat(setup)))
            replies["/predict"] = stack.enter_context(polled(OTHERS_EVERY_S, url, "/predict", repeat(predict)))
            replies[NEW] = stack.enter_context(polled(NEW_EVERY_S, url, "/setup", news))
            time.sleep(seconds)
    others = [reply.status for asked in replies.values() for reply in asked if reply.status != 200]
    figures = [
        *(
            figure
            for path, asked in replies.items()
            for figure in latencies(
                path, [reply.seconds for reply in asked], p99=NEW_LIMIT_S if path == NEW else LIMIT_S
            )
        ),
        Figure("innocent replies that are not 200", len(others), "", 0),
        Figure("hostile label configs answered", hostile[200] + hostile[400]),
        Figure("told to try again", hostile[503]),
        Figure("other hostile replies", hostile.total() - hostile[200] - hostile[400] - hostile[503], "", 0),
    ]
    return Part(f"{NUM_HOSTILE} clients with hostile label configs for {seconds:.0f} s", figures)


@contextmanager
def _attacked(url: str) -> Iterator[Counter[int]]:
    """Attack while the block runs; how often each status was replied is in the counter when it has ended."""
    statuses: Counter[int] = Counter()
    ours, theirs = multiprocessing.Pipe()
    attack = multiprocessing.get_context("spawn").Process(target=_attack, args=(url, theirs))
    attack.start()
    try:
        ours.recv()
        yield statuses
        ours.send(None)
        statuses.update(ours.recv())
    finally:
        attack.kill()
        attack.join()


def _attack(url: str, told: Connection) -> None:
    over, numbers, statuses = threading.Event(), count(), []

    def ask() -> None:
        while not over.is_set():
            number = next(numbers)
            kind = KINDS[number % len(KINDS)]
            config = f'<View><Image name="image" value="$image"/><Header value="{number}"/>{kind(number)}</View>'
            status = traffic.call(url, "/setup", _setup_body(number + 3, config), HOSTILE_WAITS_S).status
            if not over.is_set():
                statuses.append(status)

    with ThreadPoolExecutor(NUM_HOSTILE) as clients:
        for _ in range(NUM_HOSTILE):
            clients.submit(ask)
        told.send(None)
        told.recv()
        over.set()
    told.send(Counter(statuses))


def _setup_body(project: int, config: str) -> bytes:
    return json.dumps({"project": f"{project}.1700000000", "schema": config, "hostname": ""}).encode()


def _filled(num_chars: int, parts: Iterable[str]) -> str:
    found: list[str] = []
    for part in parts:
        num_chars -= len(part)
        if num_chars < 0:
            break
        found.append(part)
    return "".join(found)


def _numbers(number: int) -> str:
    return "".join(f'<Number name="n{n}" toName="image" step="0.0001" max="{number + n}"/>' for n in range(50))


def _texts(number: int) -> str:
    texts = _filled(SHORT // 2, (f'<Text name="t{n}" value="$title{n}"/>' for n in count(number)))
    return f"{'<View>' * 40}{texts}{'</View>' * 40}" + "".join(
        f'<Rating name="r{n}" toName="image"/>' for n in range(40)
    )


def _labels(num_chars: int) -> Callable[[int], str]:
    def labels(number: int) -> str:
        inner = _filled(num_chars, (f'<Choice value="{n}"/>' for n in count(number * 1_000)))
        return f'<Choices name="c" toName="image" choice="multiple">{inner}</Choices>'

    return labels


def _tree(number: int) -> str:
    chain = "".join(f'<Choice value="{number}.{level}">' for level in range(50)) + "</Choice>" * 50
    return f'<Taxonomy name="c" toName="image" maxUsages="20">{chain}</Taxonomy>'


KINDS: tuple[Callable[[int], str], ...] = (_numbers, _texts, _labels(SHORT), _tree, _labels(LONG))
"""The body of a label config, by a number that no other has."""
