"""docker-compose.yml and what lies on top of it, read and merged as Docker Compose does it; as options of `docker run`.

Knows only what our files use: mappings are merged, lists appended, anything else is replaced, and `!reset` takes the
earlier value away. Raises ValueError for a key of a service that `run_options` does not know.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
ELSEWHERE = frozenset({"build", "image", "restart", "ports", "env_file", "environment", "volumes", "networks"})
"""Keys whose meaning depends on what is around the container."""


class Reset:
    """The value of a key with the tag `!reset`."""


class _Loader(yaml.SafeLoader):
    pass


_Loader.add_constructor("!reset", lambda loader, node: Reset())


def read_compose(*names: str) -> dict[str, Any]:
    """The files of those names in the repository's root, each on top of those before it."""
    merged: dict[str, Any] = {}
    for name in names:
        with (ROOT / name).open(encoding="utf-8") as file:
            merged = _on_top(merged, yaml.load(file, _Loader))  # noqa: S506 - a SafeLoader and one tag
    return merged


def _on_top(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        before = merged.get(key)
        if isinstance(value, Reset):
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = _on_top(before if isinstance(before, dict) else {}, value)
        elif isinstance(value, list) and isinstance(before, list):
            merged[key] = before + value
        else:
            merged[key] = value
    return merged


def run_options(service: dict[str, Any]) -> list[str]:
    """How `docker run` starts a container of `service`, but for ELSEWHERE."""
    options: list[str] = []
    for key, value in service.items():
        match key:
            case "init" | "read_only":
                options += [f"--{key.replace('_', '-')}"] if value else []
            case "tmpfs" | "cap_drop" | "security_opt":
                options += [f"--{key.replace('_', '-')}={item}" for item in value]
            case "shm_size":
                options.append(f"--shm-size={value.removesuffix('b')}")
            case "stop_grace_period":
                options.append(f"--stop-timeout={value.removesuffix('s')}")
            case "logging":
                options.append(f"--log-driver={value['driver']}")
                options += [f"--log-opt={name}={said}" for name, said in value["options"].items()]
            case _ if key not in ELSEWHERE:
                raise ValueError(f"docker-compose.yml: scripts/compose.py does not know {key}")
    return options
