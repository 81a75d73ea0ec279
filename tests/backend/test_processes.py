"""Messages between processes: whole, of a length that has an end, and no wait is for ever."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from backend.processes import Malformed, Pipe

SOON_S = 0.05
MEGABYTES = bytes(2**24)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("message", [b"", b"x", os.urandom(2**14), MEGABYTES], ids=len)
def test_a_message_comes_whole(ends: tuple[socket.socket, socket.socket], message: bytes) -> None:
    ours, theirs = map(Pipe, ends)
    sending = threading.Thread(target=ours.send, args=(message,))
    sending.start()
    assert theirs.receive(len(message)) == message
    sending.join()


def test_nobody_waits_for_ever_for_one_who_does_not_receive(ends: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(TimeoutError):
        Pipe(ends[0]).send(MEGABYTES, time.monotonic() + SOON_S)


@pytest.mark.parametrize("begun", [b"", b"\0\0\0", b"\0\0\0\0\0\0\0\x05", b"\0\0\0\0\0\0\0\x05abc"], ids=len)
def test_nobody_waits_for_ever_for_one_who_does_not_go_on(
    ends: tuple[socket.socket, socket.socket], begun: bytes
) -> None:
    ends[1].sendall(begun)
    with pytest.raises(TimeoutError):
        Pipe(ends[0]).receive(5, time.monotonic() + SOON_S)


def test_nor_for_one_who_always_says_a_little(ends: tuple[socket.socket, socket.socket]) -> None:
    ended = threading.Event()

    def trickle() -> None:
        with contextlib.suppress(BrokenPipeError):
            while not ended.is_set():
                ends[1].sendall(b"\0")

    ends[1].sendall(b"\0\0\0\0\x04\0\0\0")
    trickling = threading.Thread(target=trickle)
    trickling.start()
    with pytest.raises(TimeoutError):
        Pipe(ends[0]).receive(2**26, time.monotonic() + SOON_S)
    ended.set()
    ends[0].shutdown(socket.SHUT_RD)
    trickling.join()


def test_what_is_too_long_is_not_received(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = map(Pipe, ends)
    ours.send(b"abcdef")
    with pytest.raises(Malformed):
        theirs.receive(5)


@pytest.mark.parametrize("begun", [b"", b"\0\0\0\0\0\0\0\x05abc"], ids=len)
def test_the_end_of_the_other_side_is_noticed(ends: tuple[socket.socket, socket.socket], begun: bytes) -> None:
    ends[1].sendall(begun)
    ends[1].close()
    with pytest.raises(EOFError):
        Pipe(ends[0]).receive(5)
