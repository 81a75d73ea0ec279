"""How long tests wait, and how often they repeat: the one place where both are said.

A test waits for events. A limit only ends a wait for something that will never come, so it is generous; on a machine
that is busier still, TEST_PATIENCE=3 makes each three times as long. TEST_SOAK=1 (`make soak`) asks for many examples
where `make test` takes a few.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

PATIENCE = float(os.environ.get("TEST_PATIENCE", "1"))
SOAK = os.environ.get("TEST_SOAK", "") == "1"

WAIT_S = 480.0 * PATIENCE
"""For one event: a process that starts, ends or answers, a line in a file, a number on a page."""
RUN_S = 2 * WAIT_S
"""For a command that is run from its start to its end."""
TEST_S = 4 * WAIT_S
"""For a whole test with all its waits; pytest-timeout ends the run then, which tells where it hung."""
POLL_S = 0.005


def until(condition: Callable[[], object], what: str = "it") -> None:
    """Return when `condition()` is true. Fails after WAIT_S, saying `what` did not happen."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {WAIT_S:.0f} s"
        time.sleep(POLL_S)


async def eventually(condition: Callable[[], object], what: str = "it") -> None:
    """As `until`, on an event loop."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {WAIT_S:.0f} s"
        await asyncio.sleep(POLL_S)


def examples(few: int, many: int) -> int:
    """How many examples a test of random ones tries."""
    return many if SOAK else few


settings.register_profile(
    "tests",
    deadline=None,
    derandomize=not SOAK,  # the same examples in each `make test`; others are for `make soak` to find
    max_examples=examples(30, 300),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tests")  # of every test with random examples, for all that it does not say itself


def seeds(few: int, many: int) -> list[object]:
    """Values for `parametrize`: the first `few` always, the rest only by `make soak`."""
    return [*range(few), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(few, many))]
