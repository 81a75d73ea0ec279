"""An engine process without a model: it answers, dies or hangs as the instruction of each request says."""

import os
import time
from multiprocessing.connection import Connection

from backend.engine.messages import Cancel, Failed, Finished, LoadFailed, Loading, Ready, Shutdown, Submit
from backend.engine.options import EngineOptions


def main(connection: Connection, options: EngineOptions) -> None:
    connection.send(Loading("reading", 0.5))
    if options.model == "broken":
        connection.send(LoadFailed("no such model: broken"))
        return
    if options.model == "slow":
        time.sleep(60)
    connection.send(Ready(options.model, "nf4", "cpu", 0.1, 0.0))
    while True:
        message = connection.recv()
        match message:
            case Shutdown():
                return
            case Cancel():
                connection.send(Failed(message.request_id, "cancelled", "cancelled"))
            case Submit(instruction="die"):
                os._exit(70)
            case Submit(instruction="die once") if (marker := options.quantised_dir) and not marker.exists():
                marker.touch()
                os._exit(71)
            case Submit(instruction="hang"):
                pass
            case Submit(instruction="fail"):
                connection.send(Failed(message.request_id, "out_of_memory", "too big"))
            case Submit():
                connection.send(Finished(message.request_id, (message.instruction.encode(),), (1.0,), "stop", 3, 1))
