"""What a thousand connections have sent is parsed in turns of their addresses, some in each round of the loop."""

from __future__ import annotations

import asyncio
import itertools

from backend.api.read_turns import ROUND_S, ReadTurns
from tests.limits import WAIT_S


class Parsing:
    """Each takes so much CPU of a clock that only it moves that there are two in a round."""

    def __init__(self) -> None:
        self.now = 0.0
        self.parsed: list[str] = []
        self.turns = ReadTurns(clock=lambda: self.now)

    def come(self, address: str) -> None:
        self.turns.take(address, lambda: self._parse(address))

    def _parse(self, address: str) -> None:
        self.parsed.append(address)
        self.now += ROUND_S / 2

    async def until(self, num: int) -> None:
        async with asyncio.timeout(WAIT_S):
            while len(self.parsed) < num:
                await asyncio.sleep(0)


def test_a_round_has_an_end_and_the_loop_goes_on_between_two() -> None:
    async def main() -> None:
        parsing, seen = Parsing(), [0]
        for _ in range(50):
            parsing.come("many")
        while seen[-1] < 50:
            seen.append(len(parsing.parsed))
            await asyncio.sleep(0)
        assert max(later - earlier for earlier, later in itertools.pairwise(seen)) == 2

    asyncio.run(main())


def test_who_comes_from_another_address_waits_for_one_of_each_and_not_for_all() -> None:
    async def main() -> None:
        parsing = Parsing()
        for address in ("a", "b"):
            for _ in range(50):
                parsing.come(address)
        parsing.come("one")
        await parsing.until(101)
        assert parsing.parsed.index("one") <= 4
        assert sorted(parsing.parsed) == ["a"] * 50 + ["b"] * 50 + ["one"]
        some = parsing.parsed[3:41]
        assert abs(some.count("a") - some.count("b")) <= 1, "by turns"

    asyncio.run(main())


def test_one_alone_is_parsed_at_once() -> None:
    async def main() -> None:
        parsing = Parsing()
        for number in range(1, 4):
            parsing.come("one")
            assert len(parsing.parsed) == number
            await asyncio.sleep(0)

    asyncio.run(main())


def test_what_fails_takes_no_turn_from_the_others() -> None:
    async def main() -> None:
        parsing = Parsing()

        def fail() -> None:
            parsing.now += ROUND_S
            raise ValueError

        told: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
        for _ in range(3):
            parsing.come("one")
        parsing.turns.take("bad", fail)
        parsing.come("one")
        await parsing.until(4)
        assert [type(error) for error in told] == [ValueError]

    asyncio.run(main())
