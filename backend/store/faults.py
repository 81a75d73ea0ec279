"""Named points at which tests may end the process, as kill -9 would. Nothing here runs in production.

A test's child process installs a hook; without one, `hit` is a comparison with None. No environment is read here.
"""

from __future__ import annotations

from collections.abc import Callable

_hook: Callable[[str], None] | None = None


def install(hook: Callable[[str], None] | None) -> None:
    global _hook
    _hook = hook


def hit(name: str) -> None:
    if _hook is not None:
        _hook(name)
