"""Check what is installed, and constraints.txt, against scripts/known_bad_versions.toml, without a network.

With --online it also prints what pip-audit's advisory service says, or why that could not be reached.
Exit code 1 if a bad version was found, else 0. Knows only the packages in that list.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

PINS = Path(__file__).resolve().parent.parent / "constraints.txt"
LIST = Path(__file__).with_name("known_bad_versions.toml")
ONLINE_S = 300.0


@dataclass(frozen=True, slots=True)
class Advice:
    """Versions of package `name` inside `bad` must not be installed."""

    name: str
    bad: SpecifierSet
    why: str


def known_bad(path: Path = LIST) -> list[Advice]:
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["package"]
    return [Advice(canonicalize_name(e["name"]), SpecifierSet(e["bad"]), e["why"]) for e in entries]


def installed() -> Iterator[tuple[str, str]]:
    """Name and version of every package of this environment."""
    for found in distributions():
        if found.metadata["Name"]:
            yield canonicalize_name(found.metadata["Name"]), found.version


def pinned(path: Path) -> Iterator[tuple[str, str]]:
    """Name and version of every `name==version` line."""
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text:
            requirement = Requirement(text)
            version = next((s.version for s in requirement.specifier if s.operator == "=="), "")
            yield canonicalize_name(requirement.name), version


def problems(packages: Iterable[tuple[str, str]], advice: list[Advice]) -> list[str]:
    """One line for each package that is in the list."""
    return [
        f"{name} {version}: {entry.why} (bad: {entry.bad})"
        for name, version in sorted(packages)
        for entry in advice
        if entry.name == name and entry.bad.contains(version, prereleases=True)
    ]


def ask_advisory_service() -> str:
    """What pip-audit says of this environment, or why it could not say anything."""
    command = [sys.executable, "-m", "pip_audit", "--local", "--skip-editable", "--progress-spinner", "off"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ONLINE_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return f"pip-audit did not end within {ONLINE_S:.0f} s."
    return (done.stdout + done.stderr).strip() or "pip-audit said nothing."


def main() -> int:
    options = argparse.ArgumentParser(description="Check installed packages against the list of known bad versions.")
    options.add_argument("--online", action="store_true", help="also run pip-audit and print its report")
    given = options.parse_args()
    found = problems({*installed(), *pinned(PINS)}, known_bad())
    print("\n".join(found) or f"audit: none of the {len(known_bad())} known bad version ranges is installed")
    if given.online:
        print(ask_advisory_service())
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
