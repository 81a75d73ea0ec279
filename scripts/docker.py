"""The `docker` command, for `make image`. Raises NotAsItShouldBe with what docker said when it fails."""

from __future__ import annotations

import subprocess

CALL_S = 300.0


class NotAsItShouldBe(Exception):
    pass


def docker(*arguments: str, stdin: str | None = None, limit_s: float = CALL_S) -> str:
    """Run docker and return what it printed."""
    command = ["docker", *arguments]
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=limit_s, check=False)  # noqa: S603
    except OSError as error:
        raise NotAsItShouldBe(f"docker cannot be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise NotAsItShouldBe(f"docker {arguments[0]} did not end within {limit_s:.0f} s") from None
    if done.returncode:
        said = (done.stdout + done.stderr).strip()[-4000:]
        raise NotAsItShouldBe(f"docker {' '.join(arguments)} ended with {done.returncode}:\n{said}")
    return done.stdout.strip()
