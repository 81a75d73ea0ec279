"""Programs that `make image` runs, `docker` above all. Raises NotAsItShouldBe with what one said when it fails."""

from __future__ import annotations

import subprocess

CALL_S = 300.0


class NotAsItShouldBe(Exception):
    pass


def docker(*arguments: str, stdin: str | None = None, limit_s: float = CALL_S) -> str:
    """Run docker and return what it printed."""
    return run("docker", *arguments, stdin=stdin, limit_s=limit_s)


def run(*command: str, stdin: str | None = None, limit_s: float = CALL_S) -> str:
    """Run a program and return what it printed."""
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=limit_s, check=False)  # noqa: S603
    except OSError as error:
        raise NotAsItShouldBe(f"{command[0]} cannot be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise NotAsItShouldBe(f"{' '.join(command[:2])} did not end within {limit_s:.0f} s") from None
    if done.returncode:
        said = (done.stdout + done.stderr).strip()[-4000:]
        raise NotAsItShouldBe(f"{' '.join(command)} ended with {done.returncode}:\n{said}")
    return done.stdout.strip()
