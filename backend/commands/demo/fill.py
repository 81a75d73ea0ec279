"""The demo's one click: Label Studio's Retrieve Predictions, what the backend says meanwhile, and what came of it.

The reply brings what is done by the deadline, the rest is pushed. Every wait has a limit. Raises PrelabelError.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console

from backend.commands.connect_project import done
from backend.commands.demo.local_backend import LocalBackend
from backend.errors import PrelabelError
from backend.label_studio.client import LabelStudioClient, Project
from backend.pages.numbers import number
from backend.pages.words import Words
from backend.status.reading import StatusReader
from backend.status.view import ProjectView, StatusView

DEADLINE_S = 1.0
"""Of the demo's backend: so short that not all pictures come in the reply and the delivery can be seen at work."""
FILL_S = 300.0
POLL_S = 0.25
_words = Words("en")


def fill(client: LabelStudioClient, console: Console, project: Project, backend: LocalBackend) -> None:
    """Return when the backend has nothing left to do or to deliver for `project`."""
    before: tuple[int, ...] = ()
    started = time.monotonic()
    with StatusReader(backend.url) as reader, ThreadPoolExecutor(1) as pool:
        click = pool.submit(client.retrieve_predictions, project.id)
        while True:
            clicked = click.done()
            view = reader.view()
            found = _project(view, project)
            if clicked:
                click.result()
            if found and (now := (found.num_answered, found.num_delivered, found.num_failed)) != before:
                console.print(progress_line(view, found))
                before = now
            if clicked and found and not found.num_queued + found.num_running + found.num_done:
                break
            if time.monotonic() - started > FILL_S:
                raise PrelabelError(f"Not every picture was answered within {FILL_S:.0f} s; the log says more.")
            time.sleep(POLL_S)
    done(
        console,
        f"{number(found.num_answered):prediction is|predictions are} in Label Studio: {found.num_returned} from the "
        f"reply to Retrieve Predictions, {found.num_delivered} delivered afterwards",
    )


def progress_line(view: StatusView, project: ProjectView) -> str:
    """ "  18 of 30 answered, 12.4 images/s, 1 s left, 7 delivered, 2 to review"."""
    left = project.num_queued + project.num_running
    total = project.num_answered + project.num_failed + left
    parts = [f"{number(project.num_answered)} of {number(total)} answered"]
    if view.speed.images_per_s:
        parts.append(_words.rate(view.speed.images_per_s))
    if left and view.speed.eta_s is not None:
        parts.append(f"{_words.duration(view.speed.eta_s)} left")
    for count, word in (
        (project.num_delivered, "delivered"), (project.num_needs_review, "to review"), (project.num_failed, "failed"),
    ):  # fmt: skip
        if count:
            parts.append(f"{number(count)} {word}")
    return "  " + ", ".join(parts)


def _project(view: StatusView, project: Project) -> ProjectView | None:
    return next((found for found in view.projects if found.project_id == str(project.id)), None)
