"""The result of one check: plain, in no language. `backend.pages.check_words` has the words of each `code`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

CheckName = Literal[
    "model",
    "memory",
    "card",
    "compiler",
    "host_memory",
    "disk",
    "data_dir",
    "port",
    "address",
    "token",
    "networks",
    "code",
]
Verdict = Literal["good", "unused", "doubtful", "bad"]
"""unused: there was nothing to judge. doubtful: it works, and a person should look. bad: something does not work."""


@dataclass(frozen=True, slots=True)
class Check:
    """`values` are what the words of `code` name; where one is a code itself, it is said in words, too."""

    name: CheckName
    verdict: Verdict
    code: str
    values: dict[str, str] = field(default_factory=dict)


def good(name: CheckName, code: str, **values: str) -> Check:
    return Check(name, "good", code, values)


def unused(name: CheckName, code: str, **values: str) -> Check:
    return Check(name, "unused", code, values)


def doubtful(name: CheckName, code: str, **values: str) -> Check:
    return Check(name, "doubtful", code, values)


def bad(name: CheckName, code: str, **values: str) -> Check:
    return Check(name, "bad", code, values)


def troubles(checks: Iterable[Check]) -> tuple[Check, ...]:
    """Those a person must be told of."""
    return tuple(check for check in checks if check.verdict in ("doubtful", "bad"))
