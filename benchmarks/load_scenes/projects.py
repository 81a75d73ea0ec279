"""Twenty projects at once, each with labels that no other has: every result must be legal under its own config, and
none may wait much longer than the others.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from benchmarks.load_scenes import traffic
from benchmarks.report import Figure, Part

NUM_PROJECTS = 20
NUM_LABELS = 6
DEADLINE_S = 95.0
MAX_SHARE = 2.0
"""The slowest project against the mean."""
KINDS = ("上装", "裤装", "鞋靴", "箱包", "Kleid", "кофта")


def run(folder: Path, small: bool) -> Part:
    num_tasks = 3 if small else 120
    with traffic.serving(folder, predict_deadline_s=DEADLINE_S) as (url, pictures):
        tasks = [traffic.task(n, f"{pictures}/{n}.png") for n in range(num_tasks)]
        bodies = [traffic.predict_body(project, tasks, config_of(project)) for project in range(NUM_PROJECTS)]
        replies = [asked.result() for asked in [traffic.predict(url, body) for body in bodies]]
    seconds, num = [reply.seconds for reply in replies], NUM_PROJECTS * num_tasks
    found = [(project, item) for project, reply in enumerate(replies) for item in reply.results() if item]
    figures = [
        Figure("tasks", num),
        Figure("without a prediction", num - len(found), "", 0),
        Figure("not legal under their own config", sum(not is_legal(project, item) for project, item in found), "", 0),
        Figure("last project done after", max(seconds), "s"),
        Figure("the last against the mean", max(seconds) / statistics.mean(seconds), "x", MAX_SHARE),
    ]
    return Part(f"{NUM_PROJECTS} projects with label configs of their own, {num_tasks} tasks each, at once", figures)


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
