"""One click on Retrieve Predictions while servers are killed: `python -m benchmarks.retrieval [--json FILE] [--quick]`.

A real Label Studio, a real `prelabel serve` with the built-in model, a project joined as `prelabel connect` joins it,
every task another picture. Label Studio's own action is clicked once for all tasks. Rounds, each with a project and a
backend of its own:
- undisturbed;
- killed: the backend dies by SIGKILL `--kills` times (first within the click, as soon as it has accepted every task;
  last while it brings predictions to Label Studio), and Label Studio dies once. Both are started again where they were;
- reply: Label Studio dies while it stores what the backend's reply held;
- stock: the same click on label-studio-ml's own server (benchmarks.retrieval_stock).
In the end Label Studio is asked what it has: each task must have one prediction. The exit code is 1 where one has not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from backend.background_process import BackgroundProcess, free_port
from backend.commands.connect import connect_project
from backend.label_studio import LabelStudioClient
from backend.local_backend import running_backend
from backend.local_label_studio import find_label_studio, running_label_studio
from benchmarks.pictures import picture_server
from benchmarks.report import hardware, print_table, write_json
from benchmarks.retrieval_site import Click, MeasuredLabelStudio, Server, Site, count, wait_for

ROUNDS = ("undisturbed", "killed", "reply", "stock")
_AFTER_CLICK_S = 60.0
_START_S = 240.0


@dataclass(frozen=True, slots=True)
class Blow:
    """Kill `server` once `of` ("accepted", "computed" or "stored" tasks) has reached `num`."""

    server: str
    of: str
    num: int


@dataclass(frozen=True, slots=True)
class Bench:
    """What all rounds share."""

    site: Site
    label_studio: Server
    access: Mapping[str, str]
    pictures: str
    folder: Path
    tasks: int
    deadline_s: float
    patience_s: float


def plan(name: str, tasks: int, kills: int, *, quick: bool) -> list[Blow]:
    """The blows of a round, one after the other."""
    if name == "reply":
        return [Blow("Label Studio", "stored", 1)]
    if name == "undisturbed" or not kills:
        return []
    within = [Blow("backend", "computed", tasks * number // (kills - 1)) for number in range(1, kills - 1)]
    # a push in doubt is looked up a minute later, which a quick run spares itself
    label_studio = Blow("Label Studio", "computed" if quick else "stored", tasks // 4)
    last = [Blow("backend", "stored", tasks // 2)] if kills > 1 else []
    return [Blow("backend", "accepted", tasks), *within, label_studio, *last]


class Progress:
    """How far one project is; -1 while the server that knows is away."""

    def __init__(self, site: Site, project_id: int, backend_url: str) -> None:
        self._site = site
        self._project_id = project_id
        self._url = backend_url

    def of(self, what: str) -> int:
        if what == "stored":
            return self._site.num_predictions(self._project_id)
        states = self._states()
        if not states:
            return -1
        return sum(states.values()) if what == "accepted" else sum(states[s] for s in ("done", "returned", "delivered"))

    @property
    def is_over(self) -> bool:
        """Whether the backend has nothing left to do: each task is known to be in Label Studio, or has failed."""
        states = self._states()
        return bool(states) and not any(states[state] for state in ("queued", "running", "done", "returned"))

    def _states(self) -> dict[str, int]:
        try:
            reply = httpx.get(f"{self._url}/status.json", timeout=10, trust_env=False)
            states: dict[str, int] = reply.raise_for_status().json()["totals"]["work"]
        except httpx.HTTPError:
            return {}
        return states


def prelabel_round(bench: Bench, name: str, blows: Sequence[Blow]) -> dict[str, Any]:
    """One click on a project of its own, the blows, and what Label Studio has when all is delivered."""
    folder, port = bench.folder / name, free_port()
    settings = {
        **bench.access,
        "PRELABEL_PREDICT_DEADLINE_S": str(bench.deadline_s),
        "PRELABEL_ALLOWED_NETWORKS": "127.0.0.0/8",
    }

    @contextmanager
    def start() -> Iterator[BackgroundProcess]:
        with running_backend(folder, settings, port) as backend:
            backend.wait_until_ready()
            yield backend.process

    url = f"http://127.0.0.1:{port}"
    with Server("backend", start) as backend:
        project = bench.site.new_project(f"Retrieval, {name}", bench.pictures, bench.tasks)
        connect_project(bench.site.client, Console(quiet=True), project, url, None)
        progress = Progress(bench.site, project.id, url)
        servers = {server.name: server for server in (backend, bench.label_studio)}
        click = Click(bench.site, project.id, bench.patience_s + _AFTER_CLICK_S)
        struck = [strike(blow, servers[blow.server], progress, click) for blow in blows]
        wait_for("the last prediction", lambda: progress.of("stored") >= bench.tasks or progress.is_over)
        last_s = click.elapsed_s
        say(click, f"{progress.of('stored')} predictions are in Label Studio")
        # what may be there or not is looked up, after two minutes
        wait_for("the end of the delivery", lambda: progress.is_over)
        say(click, "the backend has nothing left to do")
        click.join(bench.patience_s + _AFTER_CLICK_S)
    return {
        **figures(bench, project.id, click),
        "last_s": last_s,
        "images_per_s": bench.tasks / last_s,
        "kills": struck,
    }


def strike(blow: Blow, server: Server, progress: Progress, click: Click) -> dict[str, Any]:
    """Wait for the moment, kill, start again."""
    wait_for(f"the moment to kill the {blow.server}", lambda: progress.of(blow.of) >= blow.num, every_s=0.1)
    there = {what: progress.of(what) for what in ("computed", "stored")}
    at_s, within_click = click.elapsed_s, click.is_alive()
    server.kill()
    say(click, f"{blow.server} killed: {there['computed']} computed, {there['stored']} in Label Studio")
    server.start()
    say(click, f"{blow.server} is back")
    return {
        "server": blow.server,
        "at_s": at_s,
        "within_click": within_click,
        **there,
        "away_s": click.elapsed_s - at_s,
    }


def stock_round(bench: Bench) -> dict[str, Any]:
    """The same click on label-studio-ml's server; counted when Label Studio has stopped waiting."""
    folder, port = bench.folder / "stock", free_port()
    folder.mkdir()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "benchmarks.retrieval_stock", "--port", str(port), "--folder", str(folder)]
    env = {
        "PATH": str(Path(sys.executable).parent),
        "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
        "HOME": str(folder),  # where get_local_path keeps its pictures
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",  # as the backend
    }
    with BackgroundProcess("The stock server", command, env, folder / "stock.log") as process:
        process.wait_until_answers(f"{url}/health", _START_S, lambda reply: reply.status_code == 200)
        project = bench.site.new_project("Retrieval, stock", bench.pictures, bench.tasks)
        bench.site.client.save_backend(project.id, url, "stock", "label-studio-ml", None)
        click = Click(bench.site, project.id, bench.patience_s + _AFTER_CLICK_S)
        click.join(bench.patience_s + _AFTER_CLICK_S)
        answered = (folder / "stock.log").read_text(encoding="utf-8").count("answered ")
        say(click, f"the click returned; {answered} pictures were answered")
        time.sleep(2)
    return {**figures(bench, project.id, click), "answered": answered, "images_per_s": answered / click.seconds}


def figures(bench: Bench, project_id: int, click: Click) -> dict[str, Any]:
    client = bench.site.client
    found = count(client.tasks(project_id), client.predictions(project_id))
    return {
        **asdict(found),
        "exactly_one_each": found.exactly_one_each,
        "click_s": click.seconds,
        "click_said": click.said,
        "there_when_the_click_returned": click.num_there,
        "brought_later": found.predictions - click.num_there,
    }


def say(click: Click, what: str) -> None:
    print(f"{click.elapsed_s:7.1f} s  {what}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    args = _arguments(arguments)
    with tempfile.TemporaryDirectory() as name, picture_server(args.tasks) as pictures:
        folder = Path(name)
        planned = replace(MeasuredLabelStudio.planned(folder / "label-studio"), patience_s=args.patience)
        program = find_label_studio()
        with (
            Server("Label Studio", lambda: running_label_studio(program, planned)) as label_studio,
            LabelStudioClient(planned.url, planned.api_key) as client,
        ):
            access = {"LABEL_STUDIO_URL": planned.url, "LABEL_STUDIO_API_KEY": planned.api_key}
            site = Site(planned, client)
            bench = Bench(site, label_studio, access, pictures, folder, args.tasks, args.deadline, args.patience)
            rounds = {}
            for name in args.rounds:
                print(f"\n{name}:", flush=True)
                blows = plan(name, args.tasks, args.kills, quick=args.quick)
                rounds[name] = stock_round(bench) if name == "stock" else prelabel_round(bench, name, blows)
    document = {"tasks": args.tasks, "deadline_s": args.deadline, "patience_s": args.patience, "rounds": rounds}
    _print(document)
    if args.json:
        write_json(args.json, document)
    return 0 if all(found["exactly_one_each"] for name, found in rounds.items() if name != "stock") else 1


def _print(document: Mapping[str, Any]) -> None:
    print(
        f"\n{hardware()}; one click for {document['tasks']} tasks; Label Studio waits {document['patience_s']:g} s, "
        f"prelabel answers after {document['deadline_s']:g} s\n"
    )
    rows = [_row(name, found) for name, found in document["rounds"].items()]
    print_table(_HEADER, rows)
    for name, found in document["rounds"].items():
        print(f"\n{name}: the click returned after {found['click_s']:.1f} s and said: {found['click_said']}", end="")
        if "answered" in found:
            print(f"; {found['answered']} pictures were answered by then, none of them kept", end="")
    print()


_HEADER = (
    "round", "tasks", "predictions", "without", "duplicates", "kills", "click s", "there then", "brought later",
    "last after s", "images/s",
)  # fmt: skip


def _row(name: str, found: Mapping[str, Any]) -> list[str]:
    kept = found["predictions"] > 0
    return [
        name,
        *(str(found[key]) for key in ("tasks", "predictions", "without", "duplicates")),
        str(len(found.get("kills", ()))),
        f"{found['click_s']:.1f}",
        *(str(found[key]) for key in ("there_when_the_click_returned", "brought_later")),
        f"{found['last_s']:.1f}" if "last_s" in found else "-",
        f"{found['images_per_s']:.1f}" if kept else "0",
    ]


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, help="tasks in the project, each another picture, at most 10,000")
    parser.add_argument("--deadline", type=float, help="seconds that prelabel takes for a reply")
    parser.add_argument("--patience", type=float, help="seconds that Label Studio waits for a reply")
    parser.add_argument("--kills", type=int, help="how often the backend is killed")
    parser.add_argument("--rounds", nargs="+", choices=ROUNDS, help="which to run")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--quick", action="store_true", help="few tasks, one kill, a hasty Label Studio")
    chosen = parser.parse_args(arguments)
    usual = {"tasks": 2_000, "deadline": 10.0, "patience": 100.0, "kills": 3, "rounds": list(ROUNDS)}
    quick = {"tasks": 120, "deadline": 3.0, "patience": 5.0, "kills": 1, "rounds": ["killed", "stock"]}
    for name, value in (quick if chosen.quick else usual).items():
        if getattr(chosen, name) is None:
            setattr(chosen, name, value)
    return chosen


if __name__ == "__main__":
    sys.exit(main())
