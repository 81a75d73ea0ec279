"""One project on the status page: how far it is, what failed and why, and what a person can do about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from backend.logs import one_line
from backend.pages.markup import Markup, tag
from backend.pages.words import Words, number
from backend.status.view import DeliveryView, FailedTask, ProjectView


def project_card(
    project: ProjectView, delivery: DeliveryView, now: float, words: Words, sign: Callable[[str, str], str], index: int
) -> Markup:
    left = project.num_queued + project.num_running
    over = project.num_answered + project.num_failed
    counted = words("of_tasks", done=number(over), all=number(over + left))
    link = tag("a", words("open_in_label_studio"), href=project.url) if project.url else ""
    parts = [
        tag("div", tag("h3", *_name(project, words)), link, class_="row"),
        bar(_segments(project, over + left), counted),
        tag("div", tag("span", counted, class_="soft"), tag("span", f"{int(project.progress * 100)}%", class_="soft"),
            class_="row"),
        tag("dl", *_facts(project, words), class_="facts"),
    ]  # fmt: skip
    if delivery.mode == "reply" and project.num_done:
        parts.append(tag("p", words("next_step", num=number(project.num_done)), class_="note"))
    if project.failures:
        parts.append(tag("h4", words("failed_because")))
        parts.append(tag("table", tag("tbody", *_failures(project, words))))
    parts += [tag("p", _times(project, now, words), class_="soft"), _actions(project, words, sign)]
    return tag("section", *parts, class_="card", data_key=f"project {project.project}", id=f"project-{index}")


def bar(segments: Sequence[tuple[str, float]], told: str) -> Markup:
    """A bar of parts (name, share of 1), in SVG: the page's policy allows no style attributes."""
    start = 0.0
    shapes: list[Markup] = []
    for name, share in segments:
        shapes.append(tag("rect", class_=f"s-{name}", x=_percent(start), width=_percent(share), height="100%"))
        start += share
    return tag("svg", *shapes, class_="bar", role="img", aria_label=told)


def _percent(share: float) -> str:
    return f"{share * 100:.2f}%"


def _name(project: ProjectView, words: Words) -> list[str]:
    name = words("project", id=project.project_id or one_line(project.project)) if project.project else ""
    if project.title:
        return [project.title, tag("small", name)]
    return [name or words("unnamed_project")]


def _segments(project: ProjectView, total: int) -> list[tuple[str, float]]:
    counts = {
        "delivered": project.num_delivered, "returned": project.num_returned, "done": project.num_done,
        "failed": project.num_failed, "running": project.num_running,
    }  # fmt: skip
    return [(name, count / total if total else 0.0) for name, count in counts.items()]


def _facts(project: ProjectView, words: Words) -> list[Markup]:
    facts = [
        ("queued", words("waiting"), project.num_queued, ""),
        ("running", words("running"), project.num_running, ""),
        ("done", words("pending"), project.num_done, ""),
        ("returned", words("returned"), project.num_returned, ""),
        ("delivered", words("delivered"), project.num_delivered, ""),
        ("failed", words("failed"), project.num_failed, "wrong"),
        ("review", words("needs_review"), project.num_needs_review, "doubt"),
    ]
    if project.num_cancelled:
        facts.append(("cancelled", words("cancelled"), project.num_cancelled, ""))
    shown: list[Markup] = []
    for key, name, count, colour in facts:
        dot = tag("i", class_=f"k-{key}") if key not in ("review", "cancelled") else ""
        term = tag("dt", dot, name)
        shown.append(tag("div", term, tag("dd", number(count)), class_=colour if count else "zero", data_key=key))
    return shown


def _failures(project: ProjectView, words: Words) -> list[Markup]:
    rows: list[Markup] = []
    for reason, count in project.failures.items():
        tasks = [task for task in project.failed_tasks if task.reason == reason]
        links = [_task(task, words) for task in tasks]
        if tasks and count > len(tasks):
            links.append(tag("span", words("more_tasks", num=number(count - len(tasks))), class_="soft"))
        rows.append(
            tag("tr", tag("td", number(count), class_="num"), tag("td", words.reason(reason)), tag("td", *links))
        )
    return rows


def _task(task: FailedTask, words: Words) -> Markup:
    name = words("task", id=str(task.task_id))
    if not task.url:
        return tag("span", f"{name} ", title=task.message)
    return tag("a", name, href=task.url, title=task.message)


def _times(project: ProjectView, now: float, words: Words) -> str:
    first, last = words.age(project.first_accepted_at, now), words.age(project.last_accepted_at, now)
    told = words("times", first=first, last=last)
    if project.last_finished_at is None:
        return told
    return told + words("last_finished", age=words.age(project.last_finished_at, now))


def _actions(project: ProjectView, words: Words, sign: Callable[[str, str], str]) -> Markup:
    forms: list[Markup] = []
    if project.num_failed:
        button = tag("button", words("retry"), type="submit")
        forms.append(_form("retry", project, words, sign, button))
    left = project.num_queued + project.num_running
    if left:
        # Two steps that need no script: the button that cancels shows when the first one is opened.
        button = tag("button", words("cancel_yes"), type="submit", class_="strong")
        sure = tag("p", words("cancel_sure", num=number(left)), class_="soft")
        form = _form("cancel", project, words, sign, sure, button)
        forms.append(tag("details", tag("summary", words("cancel"), class_="button"), form))
    return tag("div", *forms, class_="acts")


def _form(action: str, project: ProjectView, words: Words, sign: Callable[[str, str], str], *shown: Markup) -> Markup:
    hidden = {"project": project.project, "token": sign(action, project.project), "lang": words.language}
    inputs = [tag("input", type="hidden", name=name, value=value) for name, value in hidden.items()]
    return tag("form", *inputs, *shown, method="post", action=f"status/{action}", data_key=action)
