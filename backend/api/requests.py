"""Request bodies of Label Studio -> small typed values. Pure functions of bytes, so that they can run anywhere.

`read_predict` keeps of each task only its id and the address of its picture: a 13 MB body with 10,000 tasks becomes
about 1 MB, which is all that crosses back from the parser process. Label configs are texts here: they are parsed
elsewhere. Raises BadRequest, UnsupportedBody, PayloadTooLarge and ConfigRefused, each naming the field; nothing of a
body's content is repeated but field names.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from cachetools import LRUCache
from pydantic import ValidationError

from backend.errors import BadRequest, ConfigRefused, PayloadTooLarge, UnsupportedBody
from backend.logs import one_line
from backend.predict.options import has_more_values
from backend.predict.task import TaskId, TaskInput
from backend.predict.trial import MAX_CONFIG_CHARS, MAX_PROJECT_CHARS, MAX_TRIAL_VALUES, Trial
from backend.store.types import MAX_TASK_ID
from label_config.task_value import described, shown

MAX_HOSTNAME_CHARS = 500
MAX_EXTRA_CHARS = 64 * 1024
"""Of the extra params, as a text; those of fifty fields with all that may be said of each are 30,000 characters."""
MAX_MADE_CHARS = 2**27
"""By how many characters the addresses of a body's tasks may be longer than the body: a label config's value may be a
text that is filled for each of them, and what it makes of a body would be ten times as long."""

_image_keys: LRUCache[bytes, str] = LRUCache(1_000)
"""Of this process, by the digest of the label config: where the address of the picture stands in a task's data."""


class NewConfig(Exception):
    """What the tasks' pictures are called cannot be known before this label config is parsed: read the body again with
    its image key then."""

    def __init__(self, project: str, label_config: str) -> None:
        super().__init__(project, label_config)
        self.project = project
        self.label_config = label_config


@dataclass(frozen=True, slots=True)
class PredictBody:
    """`project` is Label Studio's "<id>.<created>". `interactive`: a person drew something and waits (a context)."""

    project: str
    label_config: str
    tasks: tuple[TaskInput, ...]
    interactive: bool


@dataclass(frozen=True, slots=True)
class SetupBody:
    """`access_token` is not kept: Label Studio's legacy tokens are off by default, and ours is a setting."""

    project: str
    label_config: str
    extra_params: Any
    hostname: str
    """What Label Studio calls itself; "" if it does not say."""


@dataclass(frozen=True, slots=True)
class WebhookBody:
    action: str
    project: str


def read_predict(body: bytes, max_tasks: int, image_key: str | None = None) -> PredictBody:
    """`image_key` is that of the body's label config; without it, NewConfig is raised for one that was not read here
    lately."""
    document = parse_object(body)
    tasks = document.get("tasks")
    if not isinstance(tasks, list):
        raise BadRequest(f'"tasks" must be a list of tasks, not {_kind(tasks)}.')
    if len(tasks) > max_tasks:
        raise BadRequest(
            f'"tasks" has {len(tasks):,} items; {max_tasks:,} is the limit. '
            "Select fewer tasks at once, or raise PRELABEL_MAX_BODY_BYTES."
        )
    params = document.get("params") or {}
    if not isinstance(params, dict):
        raise BadRequest(f'"params" must be an object, not {_kind(params)}.')
    config, project = _label_config(document, "label_config"), _project(document.get("project"))
    digest = hashlib.sha256(config.encode()).digest()
    if image_key is None and (image_key := _image_keys.get(digest)) is None:
        raise NewConfig(project, config)
    _image_keys[digest] = image_key
    return PredictBody(
        project, config, read_tasks(tasks, image_key, len(body) + MAX_MADE_CHARS), bool(params.get("context"))
    )


def read_setup(body: bytes) -> SetupBody:
    document = parse_object(body)
    project = _project(document.get("project"))
    config = _label_config(document, "schema")
    hostname = document.get("hostname")
    named = hostname if isinstance(hostname, str) and len(hostname) <= MAX_HOSTNAME_CHARS and _is_text(hostname) else ""
    return SetupBody(project, config, _extra_params(document.get("extra_params")), named)


def _extra_params(value: Any) -> Any:
    """What a person typed, of which only the size is looked at here: the event loop reads it."""
    try:
        num_chars = len(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    except RecursionError:
        raise BadRequest('"extra_params" is nested too deeply.') from None
    if num_chars > MAX_EXTRA_CHARS:
        raise PayloadTooLarge(
            f'"extra_params" is {num_chars:,} characters long; the limit is {MAX_EXTRA_CHARS:,}. Shorten the extra '
            "params in the model settings."
        )
    return value


def read_webhook(body: bytes) -> WebhookBody:
    document = parse_object(body)
    action = document.get("action")
    project = document.get("project")
    project_id = project.get("id") if isinstance(project, dict) else project
    if not isinstance(action, str):
        raise BadRequest(f'"action" must be a text, not {_kind(action)}.')
    return WebhookBody(action[:64], _project(project_id))


def read_trial(body: bytes) -> Trial:
    """What a command of ours sends."""
    document = parse_object(body)
    if has_more_values(document, MAX_TRIAL_VALUES):
        raise BadRequest(f"A trial holds at most {MAX_TRIAL_VALUES:,} values.")
    try:
        return Trial.model_validate(document)
    except ValidationError as error:
        [first, *_] = error.errors()
        place = ".".join(map(str, first["loc"]))[:MAX_PROJECT_CHARS]
        raise BadRequest(f'"{one_line(place)}" is not what a trial has there: {one_line(first["msg"])}.') from None


def parse_object(body: bytes) -> dict[str, Any]:
    """Strict JSON: UTF-8 (a byte order mark is skipped), no NaN, one object. Of a key that stands twice the last value
    counts, as in browsers and in Label Studio."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnsupportedBody("The request body is not UTF-8.") from None
    try:
        document = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise BadRequest("The JSON of the request body is nested too deeply.") from None
    except MemoryError:
        raise PayloadTooLarge("The request body needs too much memory. Select fewer tasks at once.") from None
    except json.JSONDecodeError as error:
        raise BadRequest(f"The request body is not JSON: {error.msg} at character {error.pos}.") from None
    except ValueError as error:  # a number with thousands of digits, or no number at all
        if isinstance(error, _Refused):
            raise BadRequest(str(error)) from None
        raise BadRequest("The request body holds a number that is too long.") from None
    if not isinstance(document, dict):
        raise BadRequest(f"The request body must be a JSON object, not {_kind(document)}.")
    return document


def _label_config(document: dict[str, Any], field: str) -> str:
    config = document.get(field)
    if not isinstance(config, str):
        raise ConfigRefused(f'"{field}" must be the text of a label config, not {_kind(config)}.')
    if len(config) > MAX_CONFIG_CHARS:
        raise PayloadTooLarge(f'"{field}" is longer than {MAX_CONFIG_CHARS:,} characters.')
    _require_text(config, field)
    return config


def read_tasks(tasks: list[Any], image_key: str, max_chars: int = MAX_MADE_CHARS) -> tuple[TaskInput, ...]:
    """`max_chars`: of all addresses together."""
    seen: set[TaskId] = set()
    num_chars = 0
    read: list[TaskInput] = []
    for index, task in enumerate(tasks):
        name = f'"tasks[{index}]"'
        if not isinstance(task, dict):
            raise BadRequest(f"{name} must be an object, not {_kind(task)}.")
        task_id, data = task.get("id"), task.get("data")
        if isinstance(task_id, str) and len(task_id) <= MAX_PROJECT_CHARS:
            _require_text(task_id, f"tasks[{index}].id")
        # Not because the store could not hold it: thousands of larger ones can be made to have one and the same hash.
        elif isinstance(task_id, bool) or not isinstance(task_id, int) or abs(task_id) > MAX_TASK_ID:
            raise BadRequest(f'{name} needs an "id": a number of at most 63 bits, or a short text.')
        if not isinstance(data, dict):
            raise BadRequest(f'{name} needs "data": an object, not {_kind(data)}.')
        if task_id in seen:
            raise BadRequest(f"{name} has the same id as a task before it.")
        seen.add(task_id)
        url = shown(image_key, data)
        num_chars += len(url or "")
        if num_chars > max_chars:
            raise PayloadTooLarge(
                f"The addresses that {described(image_key)} makes of the tasks have more than {max_chars:,} characters "
                "in all. Select fewer tasks at once, or shorten value in the label config."
            )
        read.append(TaskInput(task_id, url if url is not None and _is_text(url) else None))
    return tuple(read)


def _project(value: object) -> str:
    """Lenient: "12.1700000000", "12", 12 and null all occur. Nothing is ever opened under this name."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int) or len(str(value)) > MAX_PROJECT_CHARS:
        raise BadRequest('"project" must be a short text such as "12.1700000000".')
    _require_text(str(value), "project")
    return str(value)


def _require_text(text: str, field: str) -> None:
    if not _is_text(text):
        raise BadRequest(f'"{field}" holds half of a surrogate pair or a NUL, which no text may.')


def _is_text(text: str) -> bool:
    if "\0" in text:
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


class _Refused(ValueError):
    pass


def _refuse_constant(name: str) -> Any:
    raise _Refused(f"The request body is not JSON: {name} is not a number.")


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list"}
    return kinds.get(type(value), "an object")
