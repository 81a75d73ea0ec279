"""What Label Studio now holds for each task of the demo, as a table, compared with the truth that is known for it.

Reads Label Studio through `LabelStudioClient`; raises what that raises. Nothing else here raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from backend.label_studio.client import LabelStudioClient, Project
from backend.pages.numbers import number
from backend.predict.label_configs import parse_or_refuse
from label_config.answer import Answer, FieldValue
from label_config.regions import regions_to_answer
from label_config.schema import LabelSchema, TextField
from label_config.task_value import shown

CATEGORY = "category"
_CAPTION_CHARS = 18


@dataclass(frozen=True, slots=True)
class FilledTask:
    """One task: `answer` is None where Label Studio has no prediction. `review`: a person should look."""

    task_id: int
    file: str
    answer: Answer | None = None
    score: float | None = None
    review: bool = False


def read_filled_tasks(client: LabelStudioClient, project: Project) -> list[FilledTask]:
    """Every task of the project with its newest prediction."""
    schema = parse_or_refuse(project.label_config)
    newest = {found.task_id: found for found in client.predictions(project.id)}
    tasks = []
    for task_id, data in client.tasks(project.id).items():
        file = _uploaded_name(shown(schema.image_key, data) or "")
        found = newest.get(task_id)
        if found is None:
            tasks.append(FilledTask(task_id, file))
            continue
        flag = schema.review.flag_name if schema.review else ""
        review = any(region.get("from_name") == flag for region in found.regions)
        tasks.append(FilledTask(task_id, file, regions_to_answer(schema, found.regions), found.score, review))
    return tasks


def report(console: Console, schema: LabelSchema, tasks: list[FilledTask], truth: Mapping[str, str]) -> bool:
    """Print the table and how often the category is right. Return whether every task was filled.

    `truth` maps a file to the leaf of its true category.
    """
    names = [f.name for f in schema.fields if not isinstance(f, TextField)]
    texts = [f.name for f in schema.fields if isinstance(f, TextField)]
    table = Table(title="What Label Studio now shows in the form", title_justify="left")
    for heading in ("file", *names, *texts, "score", "review"):
        table.add_column(heading, justify="right" if heading == "score" else "left", no_wrap=True)
    for task in sorted(tasks, key=lambda task: task.score or 0):
        cells = [task.file, *(_shown(_value(task, name)) for name in names)]
        if task.file in truth and truth[task.file] != cells[1 + names.index(CATEGORY)]:
            cells[1 + names.index(CATEGORY)] += f" ✗ {truth[task.file]}"
        cells += [_start(_shown(_value(task, name))) for name in texts]
        cells += ["" if task.score is None else f"{task.score:.2f}", "yes" if task.review else ""]
        table.add_row(*map(escape, cells))
    console.print(table)
    num_filled = sum(all(_value(task, name) is not None for name in (*names, *texts)) for task in tasks)
    known = [task for task in tasks if task.file in truth]
    num_right = sum(_shown(_value(task, CATEGORY)) == truth[task.file] for task in known)
    console.print(f"{num_filled} of {number(len(tasks)):task|tasks} pre-filled in every field, least certain first.")
    console.print(f"Category right in {num_right} of {len(known)} (✗ and the right one beside the others).")
    return num_filled == len(tasks) > 0


def _start(text: str) -> str:
    return text if len(text) <= _CAPTION_CHARS else text[:_CAPTION_CHARS] + "…"


def _value(task: FilledTask, name: str) -> FieldValue:
    found = task.answer.fields.get(name) if task.answer else None
    return found.value if found else None


def _shown(value: FieldValue) -> str:
    """Labels as people read them: a taxonomy path by its leaf."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ", ".join(item[-1] if isinstance(item, tuple) else item for item in value)
    return str(value)


def _uploaded_name(url: str) -> str:
    """The file's own name: Label Studio puts eight hex digits and a hyphen before it."""
    return unquote(url.rsplit("/", 1)[-1]).partition("-")[2]
