"""An engine process without a model: it answers, dies or hangs as the instruction of each request says."""

import os
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

from backend.engine.mailbox import Mailbox
from backend.engine.messages import (
    Cancel,
    Failed,
    Finished,
    LoadFailed,
    Loading,
    Ready,
    Running,
    Shutdown,
    StartAgain,
    Submit,
)
from backend.engine.options import EngineOptions
from backend.engine.process import Loop, Send
from backend.pages.engine_words import Why
from tests.limits import until

VALUES = ("needed", "card", "free", "said", "driver")


def main(connection: Connection, options: EngineOptions) -> None:
    connection.send(Loading("reading", 0.5))
    if options.model == "stalls":
        connection.send(Loading("download", 0.25, 60.0, 2e6, counts_bytes=True))
        connection.recv()  # Shutdown
        return
    if options.model == "waits" and options.quantised_dir:
        why = Why("engine_download_again", {"said": "the connection was lost"})
        connection.send(Loading("download_again", 0.25, 40.0, why=(why,)))
        until(options.quantised_dir.exists)
        connection.send(Loading("download", 0.25, 60.0, 2e6, counts_bytes=True))
        connection.recv()  # Shutdown
        return
    if options.model == "broken":
        connection.send(LoadFailed("no such model: broken", Why("ModelNotFound", {"said": "no such model: broken"})))
        return
    if options.model in signal.Signals.__members__:
        connection.send(Loading("quantise", 0.6))
        os.kill(os.getpid(), signal.Signals[options.model])
    if options.model == "graphs fail" and not options.without:
        connection.send(StartAgain("graphs", "operation not permitted"))
        return
    if options.model == "graphs fail for ever":
        connection.send(StartAgain("graphs", "operation not permitted"))
        return
    if options.model in ("save", "kernels", "memory", "graphs"):
        connection.send(Loading(options.model, 0.95))
        if not options.without:
            os._exit(3)
    if options.model.startswith("hangs at "):
        connection.send(Loading(options.model.removeprefix("hangs at "), 0.95, counts_bytes=True))
        if not options.without:
            until_the_tests_end()
    if options.model == "moves" and options.quantised_dir:
        for number in range(3):
            connection.send(Loading("download", number / 3))
            until((options.quantised_dir / str(number)).exists)
    if options.model == "refused once" and (marker := options.quantised_dir) and marker.exists():
        marker.unlink()
        connection.send(Loading("memory", 0.95))
        connection.send(
            LoadFailed("other programs hold the card", Why("engine_said", {"said": "other programs hold the card"}))
        )
        return
    is_held = options.model in ("memory_taken", "card_busy", "load_card_held", "card_fabric")
    if is_held and (marker := options.quantised_dir) and marker.exists():
        connection.send(LoadFailed("others hold the card", Why(options.model, dict.fromkeys(VALUES, "?"))))
        return
    if options.model == "faults once" and (marker := options.quantised_dir) and marker.exists():
        marker.unlink()
        connection.send(LoadFailed("an illegal access", Why("load_card_failed", {"said": "an illegal access"})))
        return
    if options.model == "hangs once" and (marker := options.quantised_dir) and marker.exists():
        marker.unlink()
        until_the_tests_end()
    if options.model == "slow":
        until_the_tests_end()
    connection.send(
        Ready(
            "chosen-first" if options.model == "auto" else options.model,
            "nf4",
            options.device or "cuda:0",
            0.1,
            0.0,
            "chosen-first" if options.model == "auto" else options.model,
            weights_id=options.quantised_dir.read_text()
            if options.model == "in a file" and options.quantised_dir
            else "",
            slower=tuple((f"slow_{part}", why) for part, why in options.without),
            card=f"asked for {options.model}",
        )
    )
    while True:
        message = connection.recv()
        if isinstance(message, Submit) and message.instruction != "waits":
            connection.send(Running((message.request_id,)))
        match message:
            case Shutdown():
                return
            case Cancel():
                connection.send(Failed(message.request_id, "cancelled", "cancelled"))
            case Submit(instruction="die"):
                os._exit(70)
            case Submit(instruction="a library ends it"):
                os._exit(1)
            case Submit(instruction="die once") if (marker := options.quantised_dir) and not marker.exists():
                marker.touch()
                os._exit(71)
            case Submit(instruction="hang" | "waits"):
                pass
            case Submit(instruction="die once"):
                connection.send(Finished(message.request_id, (str(message.alone).encode(),), (1.0,), "stop", 3, 1))
            case Submit(instruction="keeps its pipe") if (folder := options.quantised_dir) and not kept(folder):
                if os.fork() == 0:  # what still has the pipe when the process is killed, as a driver that hangs has
                    until((folder / "let go").exists)
                    os._exit(0)
                until_the_tests_end()
            case Submit(instruction="stuck"):
                until_the_tests_end()
            case Submit(instruction="fail"):
                connection.send(Failed(message.request_id, "out_of_memory", "too big"))
            case Submit():
                connection.send(Finished(message.request_id, (message.instruction.encode(),), (1.0,), "stop", 3, 1))


def not_imported(connection: Connection, options: EngineOptions) -> None:
    """As a process ends whose code, or a library of it, is half an update."""
    raise ImportError("cannot import name 'Part' from 'backend.engine.messages'")


def kept(folder: Path) -> bool:
    """Whether this was asked before."""
    try:
        (folder / "kept").touch(exist_ok=False)
    except FileExistsError:
        return True
    return False


def what_torch_will_read(options: EngineOptions, mailbox: Mailbox, send: Send) -> Loop:
    """In the place of a load: say what it would find."""
    imported = "torch" if "torch" in sys.modules else "no torch yet"
    raise ValueError(f"{os.environ.get('PYTORCH_ALLOC_CONF')}, {imported}, without {dict(options.without)}")


def until_the_tests_end() -> None:
    """Hang: do nothing until somebody ends this process, or the one that started it is gone."""
    psutil.Process(os.getppid()).wait()
