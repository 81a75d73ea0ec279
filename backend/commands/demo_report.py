"""What Label Studio now holds for each task of the demo, as a table, compared with the truth that is known for it.

Reads Label Studio through `LabelStudioClient`; raises what that raises. Nothing else here raises.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from backend.config_source import parse_or_refuse
from backend.label_studio import LabelStudioClient, Project
from label_config.answer import Answer, FieldValue
from label_config.regions import regions_to_answer
from label_config.schema import LabelSchema, TextField

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
        file = _uploaded_name(str(data.get(schema.image_key, "")))
        found = newest.get(task_id)
        if found is None:
            tasks.append(FilledTask(task_id, file))
            continue
        flag = schema.review.flag_name if schema.review else ""
        review = any(region.get("from_name") == flag for region in found.regions)
        tasks.append(FilledTask(task_id, file, regions_to_answer(schema, found.regions), found.score, review))
    return tasks


def report(console: Console, schema: LabelSchema, tasks: list[FilledTask], labels: Path) -> bool:
    """Print the table and how much of it is right. Return whether every task was filled."""
    truth = json.loads(labels.read_text(encoding="utf-8"))
    names = [f.name for f in schema.fields if not isinstance(f, TextField)]
    texts = [f.name for f in schema.fields if isinstance(f, TextField)]
    table = Table(title="Pre-filled by the model", title_justify="left")
    for heading in ("file", *names, *texts, "score", "review"):
        table.add_column(heading, justify="right" if heading == "score" else "left", no_wrap=heading in texts)
    right: Counter[str] = Counter()
    num_known: Counter[str] = Counter()
    for task in tasks:
        known = truth.get(task.file, {})
        cells = [escape(task.file)]
        for name in names:
            value = _shown(_value(task, name))
            expected = _shown_truth(known.get(name))
            num_known[name] += bool(expected)
            right[name] += bool(expected) and value == expected
            mark = "" if not expected or value == expected else " [red]✗[/]"
            cells.append(escape(value) + mark)
        cells += [escape(_shown(_value(task, name))[:_CAPTION_CHARS]) + "…" for name in texts]
        cells += ["" if task.score is None else f"{task.score:.2f}", "yes" if task.review else ""]
        table.add_row(*cells)
    console.print(table)
    num_filled = sum(all(_value(task, name) is not None for name in (*names, *texts)) for task in tasks)
    console.print(f"{num_filled} of {len(tasks)} tasks pre-filled in every field.")
    shares = [f"{name} {right[name]}/{num_known[name]}" for name in names if num_known[name]]
    console.print(f"Right, where the truth is known: {', '.join(shares)} ([red]✗[/] marks the others).")
    return num_filled == len(tasks) > 0


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


def _shown_truth(value: object) -> str:
    if isinstance(value, list):
        return str(value[-1])
    return "" if value is None else str(value)


def _uploaded_name(url: str) -> str:
    """The file's own name: Label Studio puts eight hex digits and a hyphen before it."""
    return unquote(url.rsplit("/", 1)[-1]).partition("-")[2]
