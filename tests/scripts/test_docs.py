"""What README and docs show exists: links, commands with their options, settings, make targets, benchmarks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from typer.main import get_command

from backend.cli import app
from backend.settings import DROPPED, Settings, env_name

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "deploy").glob("*.md"),
    ]
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
SHELL = {"", "sh", "shell", "bash", "console"}


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL), re.MULTILINE
    )
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def _commands(page: Path) -> Iterator[str]:
    """The lines of the page's shell blocks, continued lines joined, without comments."""
    for language, block in BLOCK.findall(page.read_text("utf-8")):
        for line in block.replace("\\\n", " ").splitlines() if language in SHELL else ():
            if command := re.sub(r"(^|\s)#.*$", "", line).strip():
                yield command


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(page.read_text("utf-8")):
        if "://" in link:
            continue
        file, _, anchor = unquote(link).partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_prelabel_command_of_a_page_is_one_with_these_options(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for exported in ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"):
        monkeypatch.setenv(exported, "http://127.0.0.1:1")
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for line in _commands(page):
        words = shlex.split(line)
        named = [i for i, word in enumerate(words) if word == "prelabel" or word.endswith("/prelabel")]
        at = named[-1] if named else None  # after `docker compose exec` the first one is the container's name
        if at is None or (at > 0 and not {"exec", "run"} & set(words[:at])) or not words[at + 1 :]:
            continue
        name, *arguments = words[at + 1 :]
        assert name in commands, line
        commands[name].make_context(name, arguments).close()


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_setting_that_a_page_names_exists(page: Path) -> None:
    known = {env_name(name) for name in Settings.model_fields} | set(DROPPED)
    named = set(re.findall(r"\bPRELABEL_[A-Z_]+\b", page.read_text("utf-8")))
    assert named <= known


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_make_target_and_benchmark_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)", text)) <= targets
    for module in set(re.findall(r"python -m (benchmarks\.[a-z_]+)", text)):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module


def test_both_readmes_are_short_and_show_the_same_commands_and_figures() -> None:
    english, chinese = ROOT / "README.md", ROOT / "README.zh-CN.md"
    assert len(english.read_text("utf-8").splitlines()) <= 150
    assert list(_commands(english)) == list(_commands(chinese))
    figures = re.compile(r"\d[\d,.]*\d|\d")
    shown = [
        sorted(set(figures.findall(re.sub(r"\]\([^)]*\)|```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL))))
        for page in (english, chinese)
    ]
    assert [f for f in shown[0] if "," in f or "." in f] == [f for f in shown[1] if "," in f or "." in f]


STRUCTURE = (ROOT / "docs" / "structure.md").read_text("utf-8")


def test_the_page_of_the_structure_is_no_wider_than_the_code() -> None:
    assert [line for line in STRUCTURE.splitlines() if len(line) > 120] == []


@pytest.mark.parametrize("room", re.findall(r"^\| module of `([\w/]+)` \|", STRUCTURE, re.MULTILINE))
def test_every_module_that_the_page_of_the_structure_names_exists(room: str) -> None:
    table = STRUCTURE.partition(f"| module of `{room}` |")[2].partition("\n\n")[0]
    named = re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in table.splitlines()[2:]))
    assert named
    assert [
        name for name in named if not (ROOT / room / name).exists() and not (ROOT / room / f"{name}.py").exists()
    ] == []
