"""`python -m benchmarks.quality_project NUM FOLDER`: a project with NUM annotations, read and reported on.

A process of its own, so that its peak memory is that of the work. Label Studio is a fake behind the client's seam,
which makes up each task as it is asked for; answers and people's work go through the store as they do in a server.
Prints one JSON object: seconds and bytes by name.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from backend.label_studio.people import PAGE, ChangedTask, Extent, PeopleOn
from backend.label_studio.predictions import CurrentProject
from backend.predict.answered import Answered
from backend.predict.label_configs import schema_of
from backend.quality.project import Asked, project_quality
from backend.quality.reading import read_people
from backend.store import NewWork, Options, RecipeRecord, Store, StoredAnswer
from label_config.answer import Answer, FieldAnswer
from label_config.ready_made import ready_made
from label_config.regions import answer_to_regions
from label_config.schema import ChoicesField, LabelSchema, PathChoicesField, TextField

PROJECT = "12.1700000000"
VERSION = "garments-nf4-0123456789ab"
BEGAN = 1_700_000_000.0
BLIND_SHARE, WRONG_SHARE, SEEN_WRONG_SHARE = 0.1, 0.12, 0.06
_AT_ONCE = 1_000


class MadeUpPeople:
    """`num` tasks of which each is annotated: BLIND_SHARE of them without an answer in the form."""

    def __init__(self, schema: LabelSchema, num: int) -> None:
        self._schema = schema
        self._num = num

    def current_project(self, project_id: int) -> CurrentProject:
        return CurrentProject(PROJECT, "")

    def missing_tasks(self, project_id: int, task_ids: Collection[int]) -> frozenset[int]:
        return frozenset()

    def extent(self, project_id: int) -> Extent:
        return Extent(BEGAN + self._num, self._num, self._num, 0)

    def changed(self, project_id: int, since: float, after: int) -> list[ChangedTask]:
        last = min(after + PAGE, self._num)
        first = max(after + 1, int(since - BEGAN))
        return [ChangedTask(number, BEGAN + number, True) for number in range(first, last + 1)]

    def people_on(self, project_id: int, task_ids: Sequence[int]) -> list[PeopleOn]:
        return [PeopleOn(number, BEGAN + number, (self._annotation(number),), {}) for number in task_ids]

    def _annotation(self, number: int) -> dict[str, Any]:
        chance = random.Random(number)
        blind = chance.random() < BLIND_SHARE
        corrects = chance.random() < (WRONG_SHARE if blind else SEEN_WRONG_SHARE)
        said = answer_of(self._schema, number, other=corrects)
        at = f"2026-11-30T14:{number // 60 % 60:02}:{number % 60:02}.000000Z"
        return {
            "id": number, "completed_by": number % 7, "was_cancelled": False, "ground_truth": False,
            "created_at": at, "updated_at": at, "lead_time": chance.lognormvariate(3.5 if blind else 2.0, 0.5),
            "parent_prediction": None if blind else number,
            "prediction": {} if blind else {"model_version": VERSION},
            "result": answer_to_regions(self._schema, said, seed=str(number)),
        }  # fmt: skip


def answer_of(schema: LabelSchema, number: int, *, other: bool = False) -> Answer:
    """One made up for that task; `other`: with another first label."""
    chance = random.Random(-number - 1)
    fields: dict[str, FieldAnswer] = {}
    for field in schema.fields:
        if isinstance(field, TextField):
            fields[field.name] = FieldAnswer("一件纯色的上衣，面料柔软，适合日常出行与上班通勤，搭配简约。" * 3)
        elif isinstance(field, ChoicesField):
            place = chance.randrange(len(field.choices)) + (other and field.name == "season")
            chosen = field.choices[place % len(field.choices)].value
            fields[field.name] = FieldAnswer((chosen,), 0.5 + chance.random() / 2)
        elif isinstance(field, PathChoicesField):
            paths = list(field.paths())
            path = tuple(node.value for node in paths[chance.randrange(len(paths))])
            fields[field.name] = FieldAnswer((path,), 0.5 + chance.random() / 2)
    return Answer(fields)


def _answer_all(store: Store, schema: LabelSchema, config: str, num: int) -> None:
    """Our answers, as a server would have stored them."""
    store.save_recipe(RecipeRecord("recipe", PROJECT, config, "{}"), BEGAN)
    for start in range(1, num + 1, _AT_ONCE):
        numbers = range(start, min(start + _AT_ONCE, num + 1))
        new = [NewWork(PROJECT, number, VERSION, "recipe", None) for number in numbers]
        rows = store.accept(new, interactive=False, reply_until=0.0, now=BEGAN)
        made = [Answered(f"{row.task_id}:{VERSION}", VERSION, answer_of(schema, row.task_id)) for row in rows]
        calls = [
            lambda row=row, one=one: store.finish(row.id, StoredAnswer(one.key, one.content), one.score, False, BEGAN)
            for row, one in zip(rows, made, strict=True)
        ]
        assert all(ended.error is None for ended in store.together(calls))


def peak_bytes() -> int:
    """Of this process. Not getrusage's: that begins with what the process that started this one held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    num, folder = int(sys.argv[1]), Path(sys.argv[2])
    config = ready_made("garments.zh")
    schema = schema_of(config)
    with Store.open(folder / "prelabel.db", BEGAN, Options(synchronous="OFF")) as store:
        _answer_all(store, schema, config, num)
        people = MadeUpPeople(schema, num)
        before = time.perf_counter()
        read_people(people, store, PROJECT, BEGAN)
        read = time.perf_counter()
        read_people(people, store, PROJECT, BEGAN)
        again = time.perf_counter()
        computed = time.process_time()
        [found] = project_quality(store, PROJECT, schema, VERSION, Asked(blind=True))
        reported, computed = time.perf_counter(), time.process_time() - computed
    quality = found.quality
    assert quality.num_blind + quality.num_filled == num
    told = {
        "reading all": read - before,
        "reading what changed since": again - read,
        "the report": reported - again,
        "the report: CPU time": computed,
        "peak memory": peak_bytes(),
        "file": (folder / "prelabel.db").stat().st_size,
        "blind tasks": quality.num_blind,
        "right, blind": quality.blind.share,
        "unchanged, pre-filled": quality.filled.share,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
