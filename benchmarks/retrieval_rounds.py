"""The rounds of benchmarks.retrieval: one click each, what is killed when, and what Label Studio has in the end.

Raises MeasuringFailed.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from backend.commands.connect import connect_project
from backend.commands.demo.background_process import BackgroundProcess, free_port
from backend.commands.demo.local_backend import running_backend
from benchmarks.retrieval_site import Click, Server, Site, count, wait_for

AFTER_CLICK_S = 600.0  # Label Studio stores a reply one by one, 10 to 30 a second
START_S = 240.0
STORED_S = 2.0


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
    pictures: str
    folder: Path
    tasks: int
    deadline_s: float

    def click(self, project_id: int) -> Click:
        return Click(self.site, project_id, self.site.server.patience_s + AFTER_CLICK_S)

    def found(self, project_id: int, click: Click) -> dict[str, Any]:
        """What Label Studio has in the end, and what it said of the click."""
        client = self.site.client
        found = count(client.tasks(project_id), client.predictions(project_id))
        return {
            **asdict(found),
            "exactly_one_each": found.exactly_one_each,
            "click_s": click.seconds,
            "click_said": click.said,
            "there_when_the_click_returned": click.num_there,
        }


def plan(name: str, tasks: int, kills: int, *, quick: bool) -> list[Blow]:
    """The blows of a round, one after the other."""
    if name == "reply":
        return [Blow("Label Studio", "stored", 1)]
    if name == "undisturbed" or not kills:
        return []
    # a push in doubt is looked up a minute later, which a quick run spares itself
    label_studio = Blow("Label Studio", "computed", tasks // 4) if quick else Blow("Label Studio", "stored", tasks // 8)
    within = [Blow("backend", "computed", tasks * number // (kills - 1)) for number in range(1, kills - 1)]
    last = [Blow("backend", "stored", tasks // 2)] if kills > 1 else []
    return [Blow("backend", "accepted", tasks), label_studio, *within, *last]


class Progress:
    """How far one project is; -1 while the server that knows is away."""

    def __init__(self, site: Site, project_id: int, num_tasks: int, backend_url: str) -> None:
        self._site = site
        self._num_tasks = num_tasks
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
        is_whole = sum(states.values()) >= self._num_tasks
        return is_whole and not any(states[state] for state in ("queued", "running", "done", "returned"))

    def _states(self) -> dict[str, int]:
        try:
            reply = httpx.get(f"{self._url}/status.json", timeout=10, trust_env=False)
            states: dict[str, int] = reply.raise_for_status().json()["totals"]["work"]
        except httpx.HTTPError:
            return {}
        return states


def prelabel_round(bench: Bench, name: str, blows: Sequence[Blow]) -> dict[str, Any]:
    """One click on a project of its own, the blows, and what Label Studio has when all is delivered."""
    site, folder, port = bench.site, bench.folder / name, free_port()
    settings = {
        "LABEL_STUDIO_URL": site.server.url,
        "LABEL_STUDIO_API_KEY": site.server.api_key,
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
        project = site.new_project(f"Retrieval, {name}", bench.pictures, bench.tasks)
        connect_project(site.client, Console(quiet=True), project, url, None)
        progress = Progress(site, project.id, bench.tasks, url)
        servers = {server.name: server for server in (backend, bench.label_studio)}
        click = bench.click(project.id)
        struck = [strike(blow, servers[blow.server], progress, click) for blow in blows]
        wait_for("the last prediction", lambda: progress.of("stored") >= bench.tasks or progress.is_over)
        last_s = click.elapsed_s
        click.say(f"{progress.of('stored')} predictions are in Label Studio")
        # what may be there or not is looked up, after two minutes
        wait_for("the end of the delivery", lambda: progress.is_over)
        click.say("the backend has nothing left to do")
        click.wait()
    # none if it was killed before it replied
    log = (folder / "prelabel.log").read_text(encoding="utf-8", errors="replace")
    told = re.search(r"(\d+) of \d+ tasks predicted", log)
    figures = {"last_s": last_s, "images_per_s": bench.tasks / last_s, "kills": struck}
    return {**bench.found(project.id, click), "in_reply": int(told[1]) if told else 0, **figures}


def strike(blow: Blow, server: Server, progress: Progress, click: Click) -> dict[str, Any]:
    """Wait for the moment, kill, start again."""
    wait_for(f"the moment to kill the {blow.server}", lambda: progress.of(blow.of) >= blow.num, every_s=0.1)
    there = {what: progress.of(what) for what in ("computed", "stored")}
    at_s, within_click = click.elapsed_s, click.is_alive()
    server.kill()
    click.say(f"{blow.server} killed: {there['computed']} computed, {there['stored']} in Label Studio")
    server.start()
    click.say(f"{blow.server} is back")
    away_s = click.elapsed_s - at_s
    return {"server": blow.server, "at_s": at_s, "within_click": within_click, **there, "away_s": away_s}


def stock_round(bench: Bench) -> dict[str, Any]:
    """The same click on label-studio-ml's server; counted when Label Studio has stopped waiting."""
    folder, port = bench.folder / "stock", free_port()
    folder.mkdir()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "benchmarks.retrieval_stock", str(port), str(folder)]
    env = {
        "PATH": str(Path(sys.executable).parent),
        "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
        "HOME": str(folder),  # where get_local_path keeps its pictures
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",  # as the backend
    }
    with BackgroundProcess("The stock server", command, env, folder / "stock.log") as process:
        process.wait_until_answers(f"{url}/health", START_S, lambda reply: reply.status_code == 200)
        project = bench.site.new_project("Retrieval, stock", bench.pictures, bench.tasks)
        bench.site.client.save_backend(project.id, url, "stock", "label-studio-ml", None)
        click = bench.click(project.id)
        click.wait()
        answered = (folder / "stock.log").read_text(encoding="utf-8").count("answered ")
        click.say(f"the click returned; {answered} pictures were answered")
        time.sleep(STORED_S)
    return {**bench.found(project.id, click), "in_reply": 0, "answered": answered}
