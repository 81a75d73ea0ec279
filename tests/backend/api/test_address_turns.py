"""Strangers take turns by address, a few in each round of the loop."""

from __future__ import annotations

import asyncio

import pytest

from backend.api.address_turns import AddressTurns
from tests.limits import WAIT_S


async def _take(turns: AddressTurns, address: str, seen: list[str]) -> None:
    await turns.take(address)
    seen.append(address)


@pytest.mark.parametrize("num_before", [0, 1, 3])
def test_one_who_was_there_before_goes_on_however_many_new_addresses_keep_coming(num_before: int) -> None:
    async def main() -> None:
        turns = AddressTurns(a_round=1)
        seen: list[str] = []
        await _take(turns, "neighbour", seen)
        flood = [asyncio.create_task(_take(turns, f"before {number}", seen)) for number in range(num_before)]
        await asyncio.sleep(0)
        neighbour = asyncio.create_task(_take(turns, "neighbour", seen))
        while not neighbour.done():
            flood.append(asyncio.create_task(_take(turns, f"new {len(flood)}", seen)))
            await asyncio.sleep(0)
        assert seen.index("neighbour", 1) <= num_before + 1
        await asyncio.gather(*flood)

    asyncio.run(asyncio.wait_for(main(), WAIT_S))


def test_many_of_one_address_have_one_turn_between_those_of_others_and_a_round_has_so_many() -> None:
    async def main() -> None:
        turns = AddressTurns(a_round=2)
        seen: list[str] = []
        many = [asyncio.create_task(_take(turns, "many", seen)) for _ in range(8)]
        one = asyncio.create_task(_take(turns, "one", seen))
        await asyncio.sleep(0)
        assert seen == ["many"] * 2
        await one
        assert seen.index("one") <= 3
        await asyncio.gather(*many)

    asyncio.run(asyncio.wait_for(main(), WAIT_S))


def test_one_who_has_gone_takes_no_turn() -> None:
    async def main() -> None:
        turns = AddressTurns(a_round=1)
        seen: list[str] = []
        tasks = [asyncio.create_task(_take(turns, name, seen)) for name in ("first", "gone", "last")]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert seen == ["first", "last"]

    asyncio.run(asyncio.wait_for(main(), WAIT_S))
