"""`prelabel status`: what a running backend says of itself, in a terminal. In English, as the other commands are.

Asks /status.json; exit code 1, and one line, when the backend cannot be reached, wants another password, or is another
program. Everything it says is printed without control characters and without being read as markup.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from backend.errors import PrelabelError
from backend.logs import one_line
from backend.pages.numbers import number
from backend.pages.words import Words
from backend.status.reading import TIMEOUT_S, StatusReader
from backend.status.view import ProjectView, StatusView

PERIOD_S = 2.0
_words = Words("en")


def status(
    url: str,
    *,
    user: str = "prelabel",
    password: str = "",
    json_output: bool = False,
    watch: bool = False,
    timeout_s: float = TIMEOUT_S,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """Print once, or every two seconds until Ctrl-C. Raises PrelabelError; while watching only for the first answer."""
    with StatusReader(url, user, password, timeout_s) as reader:
        if json_output:
            _print_json(reader, pause if watch else None)
        elif watch:
            _watch(reader, pause)
        else:
            Console(highlight=False).print(shown(reader.view()))
    return 0


def shown(view: StatusView) -> RenderableType:
    """The view as rich draws it."""
    parts: list[RenderableType] = [*_problems(view), _overview(view)]
    if view.projects:
        parts += [part for project in view.projects for part in _project(project, view.now)]
        parts += [part for project in view.projects if project.failures for part in _failures(project)]
        parts += [Text(line) for project in view.projects for line in _told(project, view)]
    else:
        parts.append(Text(f"{_words('empty_title')}. {_words('empty_text')}"))
    if view.num_more_projects:
        parts.append(Text(_words("more_projects", num=number(view.num_more_projects))))
    return Group(*parts)


def _overview(view: StatusView) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _lines(view):
        table.add_row(name, Text(one_line(value)))
    return table


def _lines(view: StatusView) -> Iterator[tuple[str, str]]:
    model, speed, cost, delivery = view.model, view.speed, view.cost, view.delivery
    state = _words.state(model.state)
    if model.state in ("loading", "restarting"):
        stage = _words.stage(model.stage, model.bytes_per_s, model.stage_left_s, model.stalled_s)
        state += f", {stage} {model.progress:.0%}"
    restarts = f"; {_words('restarts', num=number(model.num_restarts))}" if model.num_restarts else ""
    on = f" on {model.card}" if model.card else ""
    yield "Model", f"{model.name} {model.quantisation}{on}: {state}{restarts}".strip(" :")
    if model.other_cards:
        yield "", _words("most_free", others="; ".join(model.other_cards))
    elif model.card_named:
        yield "", _words("card_named")
    if model.message:
        yield "", model.message
    if model.ended and model.state == "ready":
        yield "", _words("restarted_for", said=model.ended)
    left = speed.num_waiting + speed.num_running
    eta = _words("eta_unknown").lower() if speed.eta_s is None else _words.duration(speed.eta_s)
    yield "Queue", f"{number(speed.num_waiting)} waiting, {number(speed.num_running)} running"
    yield "Speed", f"{_words.rate(speed.images_per_s)}; time left: {eta if left else _words('eta_done').lower()}"
    yield _words.busy(model.device), f"{_words.duration(cost.busy_s)} {_words('since_loaded')}"
    if cost.busy_yuan is not None:
        rest = f"; the rest will cost {_words.yuan(cost.rest_yuan)}" if cost.rest_yuan is not None else ""
        bulk = f"; {_words('bulk_cost', yuan=_words.yuan(cost.bulk_yuan))}" if cost.bulk_yuan is not None else ""
        yield "Cost", f"{_words.yuan(cost.busy_yuan)} for the busy time{rest}{bulk}"
    pushed = delivery.mode == "push"
    yield "Delivery", _words("delivery.push", url=delivery.url) if pushed else _words("delivery.reply")
    if delivery.paused_until is not None:
        yield "", _words("delivery.paused", wait=_words.duration(delivery.paused_until - view.now))
    if delivery.last_error and delivery.last_error_at is not None:
        age = _words.age(delivery.last_error_at, view.now)
        yield "", _words("delivery.error", age=age, said=delivery.last_error)
        if (remedy := _words.remedy(delivery.last_reason)) and delivery.paused_until is None:
            yield "", remedy
    if view.set_aside:
        yield "Data file", _words("set_aside", path=view.set_aside)


def _problems(view: StatusView) -> Iterator[Text]:
    for problem in view.problems:
        text = one_line(f"{_words.check_name(problem.name)}: {_words.check(problem.code, problem.values)}")
        yield Text(f"✗ {text}" if problem.verdict == "bad" else f"! {text}", "red" if problem.verdict == "bad" else "")


def _project(p: ProjectView, now: float) -> Iterator[RenderableType]:
    """The title on a line of its own: it may be long, and nothing here is cut, however narrow the terminal."""
    left = p.num_queued + p.num_running
    last = _words.age(max(p.last_accepted_at, p.last_finished_at or 0.0), now)
    counts = [
        ("done", p.num_answered), ("waiting", left), ("failed", p.num_failed),
        ("to deliver", p.num_done), ("sent in a reply, unconfirmed", p.num_returned),
        ("in Label Studio", p.num_delivered),
        ("to review", p.num_needs_review if p.num_review_left is None else p.num_review_left),
    ]  # fmt: skip
    if p.num_withheld:
        counts.append(("withheld for the blind audit", p.num_withheld))
    besides = (("no longer in Label Studio", p.gone), ("failed and annotated by people", p.done_by_people))
    counts += [(name, sum(found.values())) for name, found in besides if found]
    yield Text()
    yield Text(_name(p), "bold", overflow="fold")
    shown = ", ".join(f"{number(count)} {name}" for name, count in counts)
    yield Padding(Text(f"of {number(p.num_answered + p.num_failed + left)}: {shown}; last {last}"), (0, 0, 0, 2))


def _failures(project: ProjectView) -> Iterator[RenderableType]:
    """What failed, and below it what to do about each reason, which needs the whole width."""
    table = Table(title=Text(f"Failed in {_name(project)}"), title_justify="left")
    table.add_column("tasks", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    table.add_column("for example", overflow="fold")
    for reason, count in project.failures.items():
        example = next((task for task in project.failed_tasks if task.reason == reason), None)
        where = one_line(example.url or f"task {example.task_id}") if example else ""
        said = f"{where}: {example.message}" if example and example.message else where
        table.add_row(number(count), Text(one_line(_words.reason(reason))), Text(one_line(said)))
    yield table
    for reason in project.failures:
        if remedy := _words.remedy(reason):
            yield Text.assemble((f"{_words.reason(reason)}: ", "bold"), remedy)


def _told(project: ProjectView, view: StatusView) -> Iterator[str]:
    """What else there is to know of a project."""
    if project.num_withheld:
        key = "withheld_note.push" if view.delivery.mode == "push" else "withheld_note.reply"
        yield f"{_name(project)}: {_words(key, num=number(project.num_withheld))}"
    if project.num_older:
        yield f"{_name(project)}: {_words('older')}: {number(project.num_older)}"
    for reason, count in project.gone.items():
        said = _words("not_counted", reason=_words.reason(reason), num=number(count), remedy=_words.remedy(reason))
        yield f"{_name(project)}: {one_line(said)}"
    if project.done_by_people:
        yield f"{_name(project)}: {one_line(_words('had_failed', counts=_words.counts(project.done_by_people)))}"
    if project.num_stale:
        yield f"{_name(project)}: {_words('stale', num=number(project.num_stale))}"
    if project.quality is not None:
        for sentence in project.quality.en:
            yield one_line(f"{_name(project)}: {sentence}")
        if project.quality.error:
            yield one_line(f"{_name(project)}: {_words('quality.error', said=project.quality.error)}")
    if project.note is not None:
        note = project.note
        age = _words.age(note.at, view.now)
        yield f"{_name(project)}: {one_line(_words.note(note.kind, note.text, note.num, age))}"


def _name(project: ProjectView) -> str:
    if project.title:
        return one_line(f"{project.title} ({project.project_id or project.project})")
    return one_line(project.project_id or project.project) or _words("unnamed_project")


def _watch(reader: StatusReader, pause: Callable[[float], None]) -> None:
    first = shown(reader.view())
    with Live(first, console=Console(highlight=False), auto_refresh=False) as live, _until_interrupted():
        while True:
            pause(PERIOD_S)
            try:
                live.update(shown(reader.view()), refresh=True)
            except PrelabelError as error:  # it may be restarting
                live.update(Text(f"{error} Trying again."), refresh=True)


def _print_json(reader: StatusReader, pause: Callable[[float], None] | None) -> None:
    """Once, or after each pause again."""
    text = reader.text()
    with _until_interrupted():
        print(text, flush=True)
        while pause is not None:
            pause(PERIOD_S)
            try:
                print(reader.text(), flush=True)
            except PrelabelError as error:
                print(f"prelabel: {error}", file=sys.stderr)


@contextmanager
def _until_interrupted() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        print()
