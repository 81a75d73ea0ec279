"""One click on Retrieve Predictions while servers are killed: `python -m benchmarks.retrieval [--json FILE] [--small]`.

A real Label Studio, a real `prelabel serve` with the built-in model, a project joined as `prelabel connect` joins it,
every task another picture. Label Studio's own action is clicked once for all tasks. Rounds, each with servers of its
own:
undisturbed  nothing happens
killed       the backend dies by SIGKILL three times (first within the click, as soon as it has accepted every task;
             last while it brings predictions to Label Studio), Label Studio once; each is started again
reply        Label Studio dies while it stores what the backend's reply held
In the end Label Studio is asked what it has: each task must have one prediction, else the command exits 1.
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
from rich.console import Console

from backend.commands.connect_project import connect_project
from backend.label_studio.client import Project, TaskRegions
from benchmarks.pictures import picture_server
from benchmarks.report import Figure, Measure, Part, measure_parts
from benchmarks.retrieval_servers import Blow, Progress, Server, running_servers, wait_for
from label_config.ready_made import ready_made
from tests.end_to_end.site import Site

CLICK = {"selectedItems": {"all": True, "excluded": []}, "filters": {"conjunction": "and", "items": []}}


def plan(name: str, tasks: int, *, small: bool) -> list[Blow]:
    """The blows of a round, one after the other."""
    if name == "undisturbed":
        return []
    if name == "reply":
        return [Blow("Label Studio", "stored", 1)]
    first = Blow("backend", "accepted", tasks)
    if small:  # a push in doubt is looked up a minute later, which a small run spares itself
        return [first, Blow("Label Studio", "computed", tasks // 4)]
    others = [Blow("backend", "computed", tasks // 2), Blow("backend", "stored", tasks // 2)]
    return [first, Blow("Label Studio", "stored", tasks // 8), *others]


def measure(name: str, folder: Path, small: bool) -> Part:
    """One click, the blows, and what Label Studio has when all is delivered. Raises MeasuringFailed."""
    num_tasks, deadline_s = (200, 3.0) if small else (2_000, 10.0)
    with (
        picture_server() as pictures,
        running_servers(folder, deadline_s) as (site, url, servers),
        ThreadPoolExecutor(1) as pool,
    ):
        project = site.client.create_project(f"Retrieval, {name}", ready_made("garments.zh"))
        site.import_tasks(project, *(f"{pictures}/{number}.png" for number in range(num_tasks)))
        connect_project(site.client, Console(quiet=True), project, url, None)
        progress, started = Progress(site, project.id, num_tasks, url), time.monotonic()
        click = pool.submit(click_on, site, project)
        told = [strike(blow, servers[blow.server], progress, started) for blow in plan(name, num_tasks, small=small)]
        wait_for("the last prediction", lambda: progress.of("stored") >= num_tasks or progress.is_over)
        last_s = time.monotonic() - started
        # what may be there or not is looked up, after two minutes
        wait_for("the end of the delivery", lambda: progress.is_over)
        said, click_s = click.result()
        figures = count(site.client.tasks(project.id), site.client.predictions(project.id))
    log = (folder / "prelabel.log").read_text(encoding="utf-8", errors="replace")
    in_reply = re.search(r"(\d+) of \d+ tasks predicted", log)  # none if it was killed before it replied
    figures += [
        Figure("the click lasted", click_s, "s"),
        Figure("in the reply, at most", int(in_reply[1]) if in_reply else 0),
        Figure("complete after", last_s, "s"),
    ]
    return Part(f"{num_tasks:,} tasks; {'; '.join(told) or 'nothing was killed'}; Label Studio said: {said}", figures)


def click_on(site: Site, project: Project) -> tuple[str, float]:
    """Label Studio's action Retrieve Predictions on all tasks: what the user is told, after how many seconds."""
    started = time.monotonic()
    try:
        params = {"id": "retrieve_tasks_predictions", "project": project.id}
        said = str(site.call("POST", "/api/dm/actions", params=params, json=CLICK).json().get("detail"))
    except (httpx.HTTPError, ValueError) as error:
        said = f"no reply: {error}"
    return said, time.monotonic() - started


def strike(blow: Blow, server: Server, progress: Progress, started: float) -> str:
    """Wait for the moment, kill, start again. Returns what was done."""
    wait_for(f"the moment to kill the {blow.server}", lambda: progress.of(blow.of) >= blow.num, every_s=0.1)
    at_s = time.monotonic() - started
    server.kill()
    server.start()
    return f"{blow.server} killed after {at_s:.1f} s, {blow.num:,} {blow.of}"


def count(tasks: Collection[int], predictions: Iterable[TaskRegions]) -> list[Figure]:
    """What Label Studio has of a project's tasks."""
    found = list(predictions)
    each = Counter(prediction.task_id for prediction in found)
    regions = Counter(str(region["id"]) for prediction in found for region in prediction.regions)
    return [
        Figure("predictions", len(found)),
        Figure("tasks without one", len(set(tasks) - each.keys()), "", 0),
        Figure("tasks with more than one", sum(num > 1 for num in each.values()), "", 0),
        Figure("predictions of other tasks", len(each.keys() - set(tasks)), "", 0),
        Figure("region ids that are there twice", sum(num > 1 for num in regions.values()), "", 0),
        Figure("other model versions than one", abs(len({p.model_version for p in found}) - 1), "", 0),
    ]


PARTS: dict[str, Measure] = {name: partial(measure, name) for name in ("undisturbed", "killed", "reply")}


def main(arguments: Sequence[str] | None = None) -> int:
    return measure_parts(__doc__, PARTS, arguments)


if __name__ == "__main__":
    sys.exit(main())
