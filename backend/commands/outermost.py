"""How the process of a command begins and ends, whatever its shell and its engine leave it. Raises SystemExit alone.

Imports only what every Python has, Windows' too.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys

ON_WINDOWS = (
    "prelabel does not run on Windows itself. Run it in WSL 2 (wsl --install, then as on Linux) or in Docker Desktop "
    "(docs/docker.md); Label Studio may stay on Windows. / prelabel 不能直接在 Windows 上运行：请用 WSL 2（wsl "
    "--install，之后与 Linux 相同）或 Docker Desktop（docs/docker.md）；Label Studio 可以留在 Windows 上。"
)


def refuse_windows() -> None:
    if sys.platform == "win32":
        print(f"prelabel: {ON_WINDOWS}", file=sys.stderr)
        sys.exit(2)


def open_streams() -> None:
    """Let all three be there, and take any text.

    Where stdin, stdout or stderr is closed (`2>&-`), its number goes to the file or connection that is opened next, and
    into that libraries would write.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal of GBK has no yuan sign, and file names may have anything
            stream.reconfigure(errors="backslashreplace")


def leave_stuck_engine() -> None:
    """Python's own end would wait for ever for an engine that was killed and that a driver does not let go."""
    engines = sys.modules.get("backend.engine.child")
    if engines is None or not engines.is_one_left():
        return
    error = sys.exc_info()[1]
    code = error.code if isinstance(error, SystemExit) else error
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    logging.shutdown()
    os._exit(code if isinstance(code, int) else int(code is not None))
