"""The records as tasks with predictions, for Label Studio's import, into a project with the same label config.

Each prediction is validated with Label Studio's own `LabelInterface` first. Tasks that came from an export keep their
data and come in its order; those without a record are left out. A picture that is a file gets an address: below
`root_url`, or the one under which Label Studio's local files storage serves it.
Memory: about 100 bytes for each record, with an export 300. Raises OSError, OutputError for a record that does not fit
the label config, and UsageError, also where two pictures would get one address.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

from backend.bulk.addresses import is_url
from backend.bulk.exports.records import answer_in, is_withheld, read_records
from backend.bulk.items import digest, identity_of
from backend.bulk.lists import found_in_task, read_tasks
from backend.bulk.parts import Part, PartLimits, part_path, write_parts
from backend.errors import UsageError
from backend.label_studio.validation import prediction_check
from label_config.prompt import Language
from label_config.regions import prediction
from label_config.schema import LabelSchema
from label_config.task_value import data_showing

Made = Callable[[Mapping[str, Any]], dict[str, Any]]
"""From a record to its prediction."""
_LARGE_TASK_BYTES = 6_000
"""Of a task with a long description and ten labels; most have half of it."""
_LOCAL_FILES = "/data/local-files/?d="


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where Label Studio will find the pictures that are files here.

    `root_url` stands for any of `folders` (resolved): the SOURCEs, or those that files given as SOURCE, pictures and
    lists, lie in; without it, paths are relative to `local_files_root`, which is
    Label Studio's LOCAL_FILES_DOCUMENT_ROOT, or to "/".
    """

    root_url: str = ""
    folders: tuple[str, ...] = ()
    local_files_root: str = "/"

    def of(self, image: str) -> str:
        """`image` as a record has it: a path or an address. Raises UsageError."""
        if is_url(image) or not os.path.isabs(image):
            return image
        if self.root_url:
            if not (below := self._below(image, self.folders)):
                raise UsageError(
                    f"{image} lies in no folder among the SOURCEs, so its address below {self.root_url} is not known. "
                    "The records are whole. Name its folder as one more SOURCE (what is done is not done again), or "
                    "leave --image-root-url out (Label Studio's local files)."
                )
            return f"{self.root_url.rstrip('/')}/{_quoted(below)}"
        return _LOCAL_FILES + _quoted(self._below(image, (self.local_files_root,)) or image.lstrip("/"))

    def _below(self, path: str, folders: Sequence[str]) -> str:
        """The path relative to the innermost of `folders` that holds it; "" if none does."""
        holders = [folder for folder in folders if path.startswith(folder.rstrip("/") + "/")]
        return os.path.relpath(path, max(holders, key=len)) if holders else ""


def _quoted(path: str) -> str:
    return quote(path, safe="/", errors="surrogateescape")


def write_label_studio_tasks(
    records: Path,
    out: Path,
    *,
    schema: LabelSchema,
    label_config: str,
    language: Language,
    addresses: Addresses,
    exports: Sequence[Path] = (),
    limits: PartLimits | None = None,
) -> list[Part]:
    """Write the tasks of all records as one JSON list, in as many files as Label Studio takes. `label_config` is the
    XML of `schema`."""
    made = _predictions(schema, label_config, language)
    used: set[bytes] = set()
    known = _known_tasks(records, schema, exports, made, used)
    tasks = chain(known, _other_tasks(records, schema, addresses, made, used))
    return write_parts(tasks, out, limits or PartLimits())


def parts_notice(out: Path, num_pictures: int) -> str:
    """What is to be said before the run, "" if one file will do."""
    if num_pictures * _LARGE_TASK_BYTES <= PartLimits().max_bytes:
        return ""
    first, second = part_path(out, 1).name, part_path(out, 2).name
    return (
        f"{out} may become larger than the 250 MiB that Label Studio takes at once; its tasks are then written as "
        f"{first}, {second}, ..., to be imported one after the other"
    )


def _known_tasks(
    records: Path, schema: LabelSchema, exports: Sequence[Path], made: Made, used: set[bytes]
) -> Iterator[dict[str, Any]]:
    """Of `exports`, with what the records say of them; a task that two of them have comes once."""
    offsets = dict(_offsets(records)) if exports and records.exists() else {}
    written: set[bytes] = set()
    for export in exports:
        for task_id, data in read_tasks(export):
            if (found := found_in_task(data, schema.image_key, task_id)) is None:
                continue
            key = found.identity
            # without ids, tasks with one picture are only the same one if the rest of their data is
            task = key if task_id is not None else digest(json.dumps(data, sort_keys=True))
            if key in offsets and task not in written:
                written.add(task)
                used.add(key)
                yield _task(data, _line_at(records, offsets[key]), made)


def _other_tasks(
    records: Path, schema: LabelSchema, addresses: Addresses, made: Made, used: set[bytes]
) -> Iterator[dict[str, Any]]:
    """Of pictures that no export names."""
    given: set[bytes] = set()
    for record in read_records(records, schema):
        if identity_of(record) not in used and "task_id" not in record:
            address = addresses.of(record["image"])
            if (key := digest(address)) in given:
                _refuse_address(records, schema, addresses, record["image"])
            given.add(key)
            data = {"image_id": record["image_id"], **data_showing(schema.image_key, address)}
            yield _task(data, record, made)


def _task(data: Mapping[str, Any], record: Mapping[str, Any], made: Made) -> dict[str, Any]:
    """One that is withheld opens empty."""
    return {"data": dict(data)} if is_withheld(record) else {"data": dict(data), "predictions": [made(record)]}


def _refuse_address(records: Path, schema: LabelSchema, addresses: Addresses, image: str) -> NoReturn:
    """`image` would get the address of a picture before it, which is looked for now: only digests were kept."""
    address = addresses.of(image)
    before = (record["image"] for record in read_records(records, schema) if "task_id" not in record)
    other = next(found for found in before if addresses.of(found) == address)
    raise UsageError(
        f"{other} and {image} are two pictures, and both would get the address {address}. The records are whole. "
        "--image-root-url stands for each folder among the SOURCEs: name one folder that holds both instead, or leave "
        "the option out (Label Studio's local files)."
    )


def _offsets(records: Path) -> Iterator[tuple[bytes, int]]:
    """Where in the file the record of each task of an export begins."""
    position = 0
    with records.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                document = json.loads(line)
                yield identity_of(document), position
            position += len(line)


def _line_at(records: Path, offset: int) -> dict[str, Any]:
    with records.open("rb") as file:
        file.seek(offset)
        record: dict[str, Any] = json.loads(file.readline())
    return record


def _predictions(schema: LabelSchema, label_config: str, language: Language) -> Made:
    """What it makes is what Label Studio takes, or it raises OutputError."""
    check = prediction_check(label_config)

    def made(record: Mapping[str, Any]) -> dict[str, Any]:
        answer, findings = answer_in(record, schema)
        version = record["model_version"]
        task = f"{record['task_id']}:" if "task_id" in record else ""
        seed = f"{task}{record['image']}:{version}"
        result = prediction(schema, answer, findings, version, seed, language=language)
        check(result, record["image_id"])
        return result

    return made
