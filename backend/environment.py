"""Environment variables as people's files leave them, made what was meant: quotation marks, blanks, `export`.

`docker run --env-file`, systemd and editors of Windows each keep something of a line that a shell would not. Knows no
setting. Nothing here raises.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping

_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’"}
_MARK = "\ufeff"


def tidy(environment: MutableMapping[str, str], is_ours: Callable[[str], bool]) -> list[str]:
    """Correct the variables that `is_ours` knows by name; say of each what was dropped, never its value."""
    said = []
    for raw_name, raw in list(environment.items()):
        name = raw_name.strip(_MARK + " \t\r")
        name = name.removeprefix("export ").strip()
        if not is_ours(name):
            continue
        value, dropped = _value(raw)
        if name != raw_name:
            del environment[raw_name]
            if environment.get(name):
                said.append(f"{name}: it stands there a second time as {raw_name!r}, which is ignored")
                continue
            dropped.insert(0, f"it stood there as {raw_name!r}")
        if dropped:
            environment[name] = value
            said.append(f"{name}: {', '.join(dropped)}. Write NAME=value, without more, in the file it comes from.")
    return said


def _value(raw: str) -> tuple[str, list[str]]:
    """Without what is around it; what that was."""
    value = raw.strip()
    dropped = ["blanks around its value were dropped"] if value != raw else []
    if len(value) >= 2 and _QUOTES.get(value[0]) == value[-1]:
        value = value[1:-1].strip()
        dropped.append("quotation marks around its value were dropped")
    return value, dropped
