"""An engine process without a model that dies of every picture whose first pixel says so."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection

from backend.engine.messages import Finished, Ready, Running, Shutdown, Submit
from backend.engine.options import EngineOptions
from label_config.answer import render_answer
from tests.backend.bulk.answer import ANSWER

DEADLY = 13
"""Red of the first pixel."""


def main(connection: Connection, options: EngineOptions) -> None:
    connection.send(Ready("garments", "nf4", "cpu", 0.1, 0.2, max_slots=4))
    while not isinstance(message := connection.recv(), Shutdown):
        if not isinstance(message, Submit):
            continue
        connection.send(Running((message.request_id,)))
        if message.picture.rgb[0] == DEADLY:
            os._exit(70)
        pieces = tuple(bytes([byte]) for byte in render_answer(message.schema, ANSWER).encode())
        connection.send(Finished(message.request_id, pieces, tuple(0.9 for _ in pieces), "stop", 3, 1))
