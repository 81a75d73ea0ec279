"""A project is renewed under the label config told last, however many are told, and keeps no other waiting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from backend.errors import StoreBusy, StoreError
from backend.queue.renewals import AT_ONCE, Renewals
from tests.limits import WAIT_S, eventually


class Renewing:
    """Renews when it may: what was renewed, in order, and what was told of it."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, str]] = []
        self.told: list[tuple[str, str]] = []
        self.failures: list[StoreError] = []
        self.may_go_on = threading.Event()

    def renew(self, project: str, label_config: str) -> str:
        self.begun.append((project, label_config))
        assert self.may_go_on.wait(WAIT_S)
        if label_config == "unlucky":
            raise StoreBusy("the disk is full")
        return "" if label_config == "refused" else f"v-{label_config}"

    def run(self, ask: Callable[[Renewals], None], num_begun: int, num_after: int) -> None:
        """`ask`, wait until so many have begun, and let all go on."""

        async def run() -> None:
            renewals = Renewals(self.renew, lambda project, version: self.told.append((project, version)),
                                self.failures.append)  # fmt: skip
            ask(renewals)
            await eventually(lambda: len(self.begun) == num_begun)
            for number in range(100):
                renewals.ask("flood", f"config {number}")
            self.may_go_on.set()
            await eventually(lambda: len(self.begun) == num_after)
            await eventually(lambda: len(self.told) + len(self.failures) == num_after)

        asyncio.run(run())


def test_of_many_label_configs_told_meanwhile_the_last_counts() -> None:
    renewing = Renewing()
    renewing.run(lambda renewals: renewals.ask("flood", "first"), 1, 2)
    assert renewing.begun == [("flood", "first"), ("flood", "config 99")]
    assert renewing.told == [("flood", "v-first"), ("flood", "v-config 99")]


def test_one_project_takes_one_place_and_others_have_their_turn() -> None:
    def ask(renewals: Renewals) -> None:
        for project in ("flood", "1", "2", "3"):
            renewals.ask(project, "new")

    renewing = Renewing()
    renewing.run(ask, AT_ONCE, 5)
    first = {("flood", "new"), ("1", "new")}
    assert set(renewing.begun[:AT_ONCE]) == first
    assert set(renewing.begun[AT_ONCE:]) == {("2", "new"), ("3", "new"), ("flood", "config 99")}


def test_to_be_renewed_as_it_is_takes_no_told_config_away() -> None:
    def ask(renewals: Renewals) -> None:
        renewals.ask("1", "new")
        renewals.ask("1")

    renewing = Renewing()
    renewing.run(ask, 1, 2)
    assert renewing.begun == [("1", "new"), ("flood", "config 99")]


def test_trouble_with_the_store_is_told_and_the_next_goes_on() -> None:
    renewing = Renewing()
    renewing.run(lambda renewals: renewals.ask("flood", "unlucky"), 1, 2)
    assert [str(error) for error in renewing.failures] == ["the disk is full"]
    assert renewing.told == [("flood", "v-config 99")]
