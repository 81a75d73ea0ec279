"""Label configs that are not known yet are parsed elsewhere, projects in turns; those that are known wait for none."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from backend.api.parser import MAX_INSTANT_BYTES, MAX_WAITING_CONFIG_CHARS, MIN_CONFIG_CHARS, BodyParser
from backend.errors import ConfigRefused, EngineBusy
from backend.predict.label_configs import MAX_KNOWN_CHARS, known_schema, schema_of
from tests import left_behind
from tests.backend.api.test_large_bodies import parsing, stopped
from tests.backend.serving import predict_body, serving, setup_body, task
from tests.backend.steered import SteeredTime
from tests.label_config.configs import choices, view

_number = itertools.count()


def new_config(num_chars: int = 0) -> str:
    """One that nobody has seen."""
    xml = view(choices("a", "b", name=f"new{next(_number)}"))
    return xml.replace("</View>", " " * (num_chars - len(xml)) + "</View>")


def while_it_stands_still(ask: Callable[[BodyParser, list[str]], Coroutine[Any, Any, None]]) -> list[str]:
    """What `ask` has told of when the process, which stands still while all ask at the same moment, has read all."""
    told: list[str] = []
    time = SteeredTime()

    async def run() -> None:
        with parsing() as parser:
            with stopped(await parser.run(MAX_INSTANT_BYTES + 1, os.getpid)):
                busy = asyncio.create_task(parser.schema("0", new_config()))
                await asyncio.sleep(0)
                asked = asyncio.create_task(ask(parser, told))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            await busy
            await asked

    with time.hold_loop():
        time.run(run())
    return told


async def tell(parser: BodyParser, told: list[str], name: str, project: str, num_chars: int = 0) -> None:
    try:
        await parser.schema(project, new_config(num_chars))
        told.append(name)
    except EngineBusy as error:
        told.append(f"{name}: {error}")


def test_a_new_config_is_parsed_once_and_is_known_then() -> None:
    async def run() -> None:
        with parsing() as parser:
            xml = new_config()
            assert known_schema(xml) is None
            first, second = await asyncio.gather(parser.schema("1", xml), parser.schema("1", xml))
            assert first is second is known_schema(xml) is schema_of(xml)
            with pytest.raises(ConfigRefused):
                await parser.schema("1", "<View/>")

    asyncio.run(run())


def test_those_of_one_project_take_turns_with_other_projects_and_a_long_one_lets_short_ones_go_first() -> None:
    async def ask(parser: BodyParser, told: list[str]) -> None:
        flood = [tell(parser, told, f"flood {number}", "1") for number in range(20)]
        others = [
            tell(parser, told, "long", "2", 200_000),
            tell(parser, told, "one", "3"),
            tell(parser, told, "two", "4"),
        ]
        await asyncio.gather(*flood, *others)

    told = while_it_stands_still(ask)
    assert told.index("one") <= 2
    assert told.index("two") <= 3
    assert told[-1] == "long"
    assert [name for name in told if name.startswith("flood")] == [f"flood {number}" for number in range(20)]


def test_more_than_may_wait_are_refused_by_name_the_last_in_turn_first() -> None:
    most = MAX_WAITING_CONFIG_CHARS // MIN_CONFIG_CHARS

    async def ask(parser: BodyParser, told: list[str]) -> None:
        flood = [tell(parser, told, "flood", "1") for _ in range(most + 5)]
        await asyncio.gather(*flood, tell(parser, told, "innocent", "2"))

    told = while_it_stands_still(ask)
    assert told[:6] == [f"flood: {most} other new label configs wait to be read. Try again in a moment."] * 6
    assert sorted(told[6:]) == ["flood"] * (most - 1) + ["innocent"]
    assert told.index("innocent") <= 6 + 2


def test_all_who_ask_for_the_same_at_once_share_a_turn() -> None:
    async def ask(parser: BodyParser, told: list[str]) -> None:
        xml = new_config(200_000)
        schemas = await asyncio.gather(*(parser.schema("1", xml) for _ in range(20)))
        told += ["same"] if all(schema is schemas[0] for schema in schemas) else ["different"]

    assert while_it_stands_still(ask) == ["same"]


def test_who_gives_up_waiting_leaves_the_turn_to_the_next() -> None:
    async def ask(parser: BodyParser, told: list[str]) -> None:
        leaving = asyncio.create_task(tell(parser, told, "left", "1"))
        staying = asyncio.create_task(tell(parser, told, "stayed", "2"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        leaving.cancel()
        await staying

    assert while_it_stands_still(ask) == ["stayed"]


def test_of_many_configs_those_not_asked_for_are_forgotten_first() -> None:
    kept, forgotten = new_config(), new_config()
    schema_of(kept), schema_of(forgotten)
    for _ in range(MAX_KNOWN_CHARS // 200_000 + 1):
        assert known_schema(kept)
        schema_of(new_config(200_000))
    assert known_schema(kept)
    assert known_schema(forgotten) is None


@contextmanager
def reader_of(folder: Path) -> Iterator[tuple[Any, int | None]]:
    with serving(folder) as server:
        assert server.predict(task(1, note="x" * 80_000)).json()["results"][0]["result"]
        [reader] = left_behind.named("prelabel-reader")
        yield server, reader


def test_a_project_whose_config_is_known_waits_for_nobody_with_a_new_one(tmp_path: Path) -> None:
    with reader_of(tmp_path) as (server, pid), ThreadPoolExecutor(20) as beside:
        with stopped(pid):
            setups = [setup_body(new_config(), project="9.1") for _ in range(4)]
            predicts = [predict_body(task(7), config=new_config()) | {"project": f"{number}.1"} for number in (10, 11)]
            hostile = [beside.submit(server.client.post, "/setup", json=body) for body in setups]
            hostile += [beside.submit(server.client.post, "/predict", json=body) for body in predicts]
            assert server.predict(task(2)).json()["results"][0]["result"]
            assert server.client.post("/setup", json=setup_body()).status_code == 200
            assert server.client.get("/health").status_code == 200
            assert not any(asking.done() for asking in hostile)
        assert [asking.result().status_code for asking in hostile] == [200] * 6
