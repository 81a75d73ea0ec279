"""Wrong passwords wait for their reply, the right one never does."""

from __future__ import annotations

import asyncio
import select
from contextlib import ExitStack
from pathlib import Path
from socket import create_connection, socket

import httpx
import pytest

from backend.api.connections import ConnectionLimits, limits_for
from backend.api.passwords import (
    FORGET_S,
    FREE_GUESSES,
    MAX_ADDRESSES,
    MAX_HOLD_S,
    WrongPasswords,
    short_password,
)
from backend.settings import load_settings
from tests.backend.serving import NEVER_S, Server, read_all, serving
from tests.backend.steered import SteeredTime
from tests.limits import WAIT_S, until

PASSWORD = "correct horse"


def test_ten_are_answered_at_once_and_each_more_waits_a_second_longer_up_to_a_limit() -> None:
    wrong = WrongPasswords()
    waits = [wrong.note("10.0.0.1", 0.0) for _ in range(40)]
    assert waits[:FREE_GUESSES] == [0.0] * FREE_GUESSES
    assert waits[FREE_GUESSES : FREE_GUESSES + 3] == [1.0, 2.0, 3.0]
    assert waits[-1] == MAX_HOLD_S
    assert wrong.note("10.0.0.2", 0.0) == 0.0, "another address"


def test_they_are_forgotten_with_time_however_many_there_were() -> None:
    wrong = WrongPasswords()
    for _ in range(10_000):
        wrong.note("10.0.0.1", 0.0)
    assert wrong.note("10.0.0.1", 10 * FORGET_S) == 1.0
    assert wrong.note("10.0.0.1", 1_000 * FORGET_S) == 0.0


def test_who_guesses_one_after_another_gets_about_ten_a_minute() -> None:
    wrong, now, num = WrongPasswords(), 0.0, 0
    while now < 3_600:
        now += wrong.note("10.0.0.1", now) + 0.001
        num += 1
    assert num < 700


def test_of_many_addresses_those_that_are_quiet_longest_are_forgotten() -> None:
    wrong = WrongPasswords()
    for _ in range(FREE_GUESSES + 5):
        wrong.note("10.0.0.1", 0.0)
    for number in range(MAX_ADDRESSES - 1):
        wrong.note(f"10.1.0.{number}", 0.0)
    assert wrong.note("10.0.0.1", 0.0) == 6.0, "it was there"
    for number in range(MAX_ADDRESSES):
        wrong.note(f"10.2.0.{number}", 0.0)
    assert wrong.note("10.0.0.1", 0.0) == 0.0


@pytest.mark.parametrize(
    ("password", "is_short"), [("", False), ("x", True), ("密码密码密码密", True), ("12345678", False)]
)
def test_a_password_that_is_soon_guessed_is_named(password: str, is_short: bool) -> None:
    said = short_password(load_settings({"basic_auth_pass": password}))
    assert bool(said) == is_short
    assert not said or said.startswith("BASIC_AUTH_PASS is soon guessed: it is shorter than 8 characters. Set a longer")


@pytest.mark.parametrize("num_files", [64, 256, 1_024, 8_192, 1_000_000])
def test_those_that_wait_leave_most_connections_to_others(num_files: int) -> None:
    limits = limits_for(num_files)
    assert 0 < 4 * limits.max_held <= limits.max_connections
    steered = SteeredTime()

    async def guess() -> int:
        wrong = WrongPasswords(limits.max_held)
        guesses = [asyncio.create_task(wrong.hold("10.0.0.1")) for _ in range(FREE_GUESSES + limits.max_held + 50)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        num_waiting = sum(not one.done() for one in guesses)
        for one in guesses:
            one.cancel()
        return num_waiting

    assert steered.run(guess()) == limits.max_held


def num_wrong(server: Server) -> int:
    return int(server.metric("prelabel_requests_total", route="/health", status="401"))


def guess(server: Server) -> socket:
    connection = create_connection(("127.0.0.1", server.port), timeout=WAIT_S)
    connection.sendall(
        b"GET /health HTTP/1.1\r\nHost: a\r\nAuthorization: Basic d3Jvbmc6d3Jvbmc=\r\nConnection: close\r\n\r\n"
    )
    return connection


def test_the_right_password_goes_before_wrong_ones_from_the_same_address(tmp_path: Path) -> None:
    with serving(tmp_path, basic_auth_pass=PASSWORD) as server, ExitStack() as opened:
        server.client.auth = httpx.BasicAuth("prelabel", PASSWORD)
        with server.time.hold_loop():
            guesses = [opened.enter_context(guess(server)) for _ in range(FREE_GUESSES + 4)]
            until(lambda: num_wrong(server) == FREE_GUESSES)
            assert server.client.get("/health").status_code == 200
            assert httpx.get(f"{server.url}/health", trust_env=False).status_code == 401, "no password is no guess"
            assert num_wrong(server) == FREE_GUESSES + 1, "four wait"
            until(lambda: server.time.put_forward(1) or num_wrong(server) == FREE_GUESSES + 5)
        assert {read_all(one)[:12] for one in guesses} == {b"HTTP/1.1 401"}


def test_those_that_wait_make_room_for_others(tmp_path: Path) -> None:
    few = ConnectionLimits(max_connections=8, head_s=NEVER_S, idle_s=NEVER_S, reply_s=NEVER_S)
    with serving(tmp_path, connections=few, basic_auth_pass=PASSWORD) as server, ExitStack() as opened:
        server.client.auth = httpx.BasicAuth("prelabel", PASSWORD)
        with server.time.hold_loop():
            for _ in range(FREE_GUESSES):
                assert read_all(opened.enter_context(guess(server))).startswith(b"HTTP/1.1 401")
            held = [opened.enter_context(guess(server)) for _ in range(20)]
            until(lambda: len(select.select(held, [], [], 0)[0]) == 20 - 8)
            assert server.client.get("/health").status_code == 200
        server.time.put_forward(MAX_HOLD_S)
