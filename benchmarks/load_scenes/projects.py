"""Twenty projects at once, each with labels that no other has: every result must be legal under its own config, and
none may wait much longer than the others. Then more label configs than the engine keeps grammars of.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from backend.commands.demo.local_backend import running_backend
from backend.engine.sequence import MAX_CACHED_GRAMMARS
from benchmarks.load_scenes import traffic
from benchmarks.load_scenes.figures import MEBIBYTE, Figure, SceneReport
from benchmarks.load_scenes.traffic import Reply
from benchmarks.pictures import picture_server

NUM_PROJECTS = 20
NUM_LABELS = 6
DEADLINE_S = 95.0
MAX_SHARE = 2.0
"""The slowest project against the mean."""
MAX_GROWTH_BYTES = 50 * MEBIBYTE
"""What the last of many configs may add to the memory, when those before have filled the caches."""
KINDS = ("上装", "裤装", "鞋靴", "箱包", "Kleid", "кофта")


def run(folder: Path, quick: bool) -> SceneReport:
    num_tasks, num_more = (3, 10) if quick else (120, 2 * MAX_CACHED_GRAMMARS)
    settings = {**traffic.SETTINGS, "PRELABEL_PREDICT_DEADLINE_S": str(DEADLINE_S)}
    with picture_server(num_tasks) as pictures, running_backend(folder, settings) as backend:
        backend.wait_until_ready()
        tasks = [traffic.task(n, f"{pictures}/{n}.png") for n in range(num_tasks)]
        bodies = [traffic.predict_body(p, config_of(p), tasks) for p in range(NUM_PROJECTS)]
        predicts = [traffic.predict(backend.url, body) for body in bodies]
        replies = [predict.result() for predict in predicts]
        growth_bytes, num_wrong = _more_configs(backend.url, backend.process.pid, pictures, num_more)
    seconds = [reply.seconds for reply in replies]
    mean_s = sum(seconds) / len(seconds)
    results = [(project, item) for project, reply in enumerate(replies) for item in reply.results()]
    figures = (
        Figure("replies that are not 200", sum(reply.status != 200 for reply in replies), "", 0),
        Figure("tasks", NUM_PROJECTS * num_tasks),
        Figure("without a prediction", NUM_PROJECTS * num_tasks - sum(bool(item) for _, item in results), "", 0),
        Figure("not legal under their own config", sum(not is_legal(p, item) for p, item in results if item), "", 0),
        Figure("tasks a second, all projects", NUM_PROJECTS * num_tasks / max(seconds)),
        Figure("first project done after", min(seconds), "s"),
        Figure("mean", mean_s, "s"),
        Figure("last project done after", max(seconds), "s"),
        Figure("the last against the mean", max(seconds) / mean_s, "x", MAX_SHARE),
        Figure(f"{2 * num_more} more configs: wrong or missing", num_wrong, "", 0),
        Figure(f"memory the last {num_more} of them added", growth_bytes, "bytes", MAX_GROWTH_BYTES),
    )
    about = f"{NUM_PROJECTS} projects with label configs of their own, {num_tasks} tasks each, at once"
    return SceneReport("projects", about, figures)


def config_of(project: int) -> str:
    labels = "".join(f'<Choice value="{label}"/>' for label in labels_of(project))
    control = f'<Choices name="kind{project}" toName="image" required="true">{labels}</Choices>'
    return f'<View><Image name="image" value="$image"/>{control}</View>'


def labels_of(project: int) -> list[str]:
    return [f"{KINDS[n % len(KINDS)]}{project}-{n}" for n in range(NUM_LABELS)]


def is_legal(project: int, prediction: dict[str, Any]) -> bool:
    """Whether it is one region, of this project's control, with one of its labels."""
    regions = prediction["result"]
    if len(regions) != 1 or regions[0]["from_name"] != f"kind{project}":
        return False
    choices = regions[0]["value"]["choices"]
    return len(choices) == 1 and choices[0] in labels_of(project)


def _more_configs(url: str, pid: int, pictures: str, num: int) -> tuple[int, int]:
    """One task for each of twice `num` new projects. Returns what the second half added to the memory of all our
    processes, in bytes, and how many predictions were missing or of another project's labels."""

    def ask(project: int) -> Reply:
        body = traffic.predict_body(project, config_of(project), [traffic.task(project, f"{pictures}/0.png")])
        return traffic.call(url, "/predict", body, 60.0)

    def good(project: int) -> bool:
        results = ask(project).results()
        return bool(results and results[0]) and is_legal(project, results[0])

    def rss_bytes() -> int:
        return sum(traffic.holdings(process).rss_bytes for process in [pid, *traffic.children(pid)])

    first = NUM_PROJECTS
    num_good = sum(good(project) for project in range(first, first + num))
    before = rss_bytes()
    num_good += sum(good(project) for project in range(first + num, first + 2 * num))
    return max(0, rss_bytes() - before), 2 * num - num_good
