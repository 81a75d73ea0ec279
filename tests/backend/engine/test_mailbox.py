"""Messages between two threads: all of them, in order, and a waiter wakes up."""

from __future__ import annotations

import threading

from backend.engine.mailbox import Mailbox
from backend.engine.messages import Cancel, Shutdown, ToEngine
from tests.limits import WAIT_S


def test_nothing_has_arrived_in_an_empty_mailbox() -> None:
    assert Mailbox().take(wait=False) == []


def test_take_empties_it_and_keeps_the_order() -> None:
    mailbox = Mailbox()
    messages: list[ToEngine] = [Cancel(2), Cancel(1), Shutdown()]
    for message in messages:
        mailbox.put(message)
    assert mailbox.take(wait=True) == messages
    assert mailbox.take(wait=False) == []


def test_a_waiting_take_wakes_when_a_message_arrives() -> None:
    mailbox, taken = Mailbox(), list[ToEngine]()
    waiter = threading.Thread(target=lambda: taken.extend(mailbox.take(wait=True)))
    waiter.start()
    mailbox.put(Cancel(7))
    waiter.join(WAIT_S)
    assert not waiter.is_alive()
    assert taken == [Cancel(7)]


def test_no_message_is_lost_between_a_writer_and_a_reader() -> None:
    mailbox, count = Mailbox(), 2_000
    writer = threading.Thread(target=lambda: [mailbox.put(Cancel(i)) for i in range(count)])
    writer.start()
    taken: list[ToEngine] = []
    while len(taken) < count:
        taken += mailbox.take(wait=True)
    writer.join(WAIT_S)
    assert taken == [Cancel(i) for i in range(count)]
