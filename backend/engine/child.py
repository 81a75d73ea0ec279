"""The engine's process as its parent sees it: how it is started, and what its exit code says. Nothing raises."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import types
from collections.abc import Iterator
from multiprocessing.process import BaseProcess

from backend.engine.messages import EXIT_DEVICE, EXIT_LIBRARY
from backend.pages.engine_words import Why

FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM)
"""How a process ends that others end, the system for want of memory among them."""
OF_THE_DEVICE = ("engine_device", "engine_library")
"""What is said of a process whose device has failed."""
_ENDS: dict[int, str] = {
    **dict.fromkeys((-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGILL, -signal.SIGFPE), "engine_crashed"),
    -signal.SIGBUS: "engine_file_lost",
    EXIT_DEVICE: "engine_device",
    EXIT_LIBRARY: "engine_library",
}
"""What is said of an exit code. Where a library crashes, it writes where to the log (`process.main`)."""
_starting = threading.Lock()
_left: list[BaseProcess] = []


def why_ended(exitcode: int | None, by_itself: bool, has_begun: bool = True) -> Why:
    """`by_itself`: its parent did not end it. `has_begun`: it has said something, and so its code could be imported;
    before that it is Python that ends with the code of EXIT_LIBRARY."""
    killed = by_itself and exitcode == -signal.SIGKILL
    code = "engine_killed" if killed else _ENDS.get(exitcode or 0, "engine_ended")
    if code == "engine_library" and not has_begun:
        code = "engine_not_imported"
    return Why(code, {"exitcode": str(exitcode)})


def leave(process: BaseProcess) -> None:
    """It was killed, and is still there: a driver does not let it go."""
    _left.append(process)


def is_one_left() -> bool:
    return any(process.is_alive() for process in _left)


@contextlib.contextmanager
def without_main() -> Iterator[None]:
    """A process started in this block does not run the program's main module again, as spawned ones do: the engine
    needs nothing of it, and a server's script without `if __name__ == "__main__"` would start its server once more."""
    with _starting:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main
