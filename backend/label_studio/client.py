"""What we ask of Label Studio's API to set up a project, over label-studio-sdk (and httpx where the SDK has no call).

Both kinds of token work: legacy tokens, and personal access tokens, which the SDK exchanges for short-lived ones.
Every call has a time limit and is made once: the SDK's own retries repeat POSTs, too, and would make duplicates.
Raises LabelStudioError, whose text tells the next step; `retryable` says whether waiting may help.
The SDK is imported by the first client: it brings pandas and more, two seconds of CPU that no other part should pay.
"""

from __future__ import annotations

import json
import mimetypes
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from backend.errors import LabelStudioError
from backend.label_studio.address import is_on_this_machine
from backend.label_studio.refusals import explain, not_label_studio, unreachable
from backend.label_studio.tls import tls_context
from backend.settings import Credentials

T = TypeVar("T")
CALL_S = 30.0
MAX_REPLY_BYTES = 8 * 2**20
"""People make tabs, titles and more of any length, and a reply of brackets takes thirty times its length in memory."""
UPLOAD_S = 120.0
RETRIEVE_S = 130.0  # Label Studio itself gives the backend 100 s
SEQUENTIAL, UNCERTAINTY = "Sequential sampling", "Uncertainty sampling"
"""What *Label All Tasks* goes by: the order of import (Label Studio's default), or the lowest score first."""
_UPLOAD_FILES = 50  # Label Studio takes at most 100 files a request


@dataclass(frozen=True, slots=True)
class Project:
    id: int
    title: str
    label_config: str


@dataclass(frozen=True, slots=True)
class Backend:
    """An ML backend as Label Studio knows it. `state` is CO (connected), DI, ER, TR or PR.

    `extra_params` are what a person typed in the model settings: an object, or its JSON text.
    """

    id: int
    url: str
    title: str
    description: str
    state: str
    model_version: str
    extra_params: Any = None


@dataclass(frozen=True, slots=True)
class TaskRegions:
    """The regions of one prediction or annotation of a task; `score` and `model_version` are a prediction's."""

    task_id: int
    regions: tuple[dict[str, Any], ...]
    score: float | None = None
    model_version: str = ""


class LabelStudioClient:
    """Use as a context manager, or call `close`."""

    def __init__(self, url: str, api_key: str, *, extra_ca_file: Path | None = None) -> None:
        self.url = url.rstrip("/")
        # a proxy of the environment cannot reach this machine, and must not see its token
        trust_env = not is_on_this_machine(self.url)
        context = tls_context(extra_ca_file)
        self._http = httpx.Client(timeout=CALL_S, follow_redirects=False, trust_env=trust_env, verify=context)
        from label_studio_sdk.client import LabelStudio

        with self._explained():
            self._sdk = LabelStudio(  # type: ignore[no-untyped-call]
                base_url=self.url, api_key=api_key.strip(), httpx_client=self._http, timeout=CALL_S, max_retries=0
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def user_email(self) -> str:
        """Who the token belongs to; the cheapest way to find out that it works."""
        return self._call(lambda: _text(self._sdk.users.whoami().email))

    # Projects

    def project(self, project_id: int) -> Project:
        return self._call(lambda: _project(self._sdk.projects.get(id=project_id)))

    def projects_titled(self, title: str) -> list[Project]:
        """The projects with exactly this title, oldest first."""
        found: list[Any] = self._call(lambda: list(self._sdk.projects.list(title=title)))
        return sorted((_project(p) for p in found if p.title == title), key=lambda p: p.id)

    def create_project(self, title: str, label_config: str) -> Project:
        return self._call(lambda: _project(self._sdk.projects.create(title=title, label_config=label_config)))

    def set_label_config(self, project_id: int, label_config: str) -> None:
        """Refused where it lacks a field or a label that annotations or drafts use. By itself a change of the project
        refuses only fields, and drops labels in silence; Label Studio's own page asks for this check before it."""
        self.api("POST", f"/api/projects/{project_id}/validate/", json={"label_config": label_config})
        self._call(lambda: self._sdk.projects.update(id=project_id, label_config=label_config))

    def remove_project(self, project_id: int) -> None:
        """With everything in it."""
        self._call(lambda: self._sdk.projects.delete(id=project_id))

    def num_tasks(self, project_id: int) -> int:
        return self._num_of(project_id, "task_number")

    def num_predictions(self, project_id: int) -> int:
        return self._num_of(project_id, "total_predictions_number")

    def _num_of(self, project_id: int, name: str) -> int:
        found = self.api("GET", f"/api/projects/{project_id}", params={"include": f"id,{name}"})
        return self.whole_number(found, name)

    def sample_least_certain_first(self, project_id: int) -> bool:
        """Have *Label All Tasks* bring the lowest score first, where nobody has chosen another way than the default.

        Return whether the project does so now.
        """
        found = self.api("GET", f"/api/projects/{project_id}", params={"include": "id,sampling"})
        sampling = found.get("sampling") if isinstance(found, dict) else None
        if sampling in (None, SEQUENTIAL):
            self.api("PATCH", f"/api/projects/{project_id}", json={"sampling": UNCERTAINTY})
        return sampling in (None, SEQUENTIAL, UNCERTAINTY)

    def sample_in_order(self, project_id: int) -> None:
        """Undo `sample_least_certain_first`, under which a task without a score comes after all that have one."""
        found = self.api("GET", f"/api/projects/{project_id}", params={"include": "id,sampling"})
        if isinstance(found, dict) and found.get("sampling") == UNCERTAINTY:
            self.api("PATCH", f"/api/projects/{project_id}", json={"sampling": SEQUENTIAL})

    def prelabel_with(self, project_id: int, backend_title: str) -> None:
        """Turn on "Use predictions to prelabel tasks", with the predictions of the backend of that title."""
        self._call(
            lambda: self._sdk.projects.update(id=project_id, show_collab_predictions=True, model_version=backend_title)
        )

    # ML backends

    def backends(self, project_id: int) -> list[Backend]:
        """The project's backends. Label Studio asks each for its health first, so this may take seconds."""
        return [_backend(b) for b in self._call(lambda: self._sdk.ml.list(project=project_id))]

    def save_backend(
        self,
        project_id: int,
        url: str,
        title: str,
        description: str,
        credentials: Credentials | None,
        backend_id: int | None = None,
        extra_params: dict[str, Any] | None = None,
    ) -> Backend:
        """Add the backend at `url`, or change the one with `backend_id`. Label Studio calls it before it saves."""
        fields: dict[str, Any] = {"project": project_id, "url": url, "title": title, "description": description}
        if credentials:
            fields |= {
                "auth_method": "BASIC_AUTH",
                "basic_auth_user": credentials.user,
                "basic_auth_pass": credentials.password,
            }
        elif backend_id is not None:
            fields["auth_method"] = "NONE"
        if extra_params:
            fields["extra_params"] = extra_params
        if backend_id is None:
            return self._call(lambda: _backend(self._sdk.ml.create(**fields)))
        return self._call(lambda: _backend(self._sdk.ml.update(backend_id, **fields)))

    def set_extra_params(self, project_id: int, backend_id: int, extra_params: dict[str, Any]) -> None:
        """Change nothing else of the backend. Label Studio calls it before it saves."""
        found = self.api("GET", f"/api/ml/{backend_id}")
        body = {"project": project_id, "url": found["url"], "title": found["title"], **kept_auth(found)}
        self.api("PATCH", f"/api/ml/{backend_id}", json={**body, "extra_params": extra_params})

    def remove_backend(self, backend_id: int) -> None:
        """Remove it with its webhook. Its predictions stay."""
        self._call(lambda: self._sdk.ml.delete(backend_id))

    def send_events_to(self, project_id: int, webhook_url: str) -> None:
        """Have Label Studio send the project's events there: one webhook, however often this runs.

        Without the backend's password: Label Studio shows a webhook's headers to every member of the organisation.
        """
        webhooks = self._call(lambda: list(self._sdk.webhooks.list(project=str(project_id))))
        known = next((w for w in webhooks if w.url == webhook_url and w.project == project_id), None)
        if known is None:
            self._call(
                lambda: self._sdk.webhooks.create(
                    url=webhook_url, project=project_id, send_payload=True, send_for_all_actions=True
                )
            )
        elif known.headers:
            self._call(lambda: self._sdk.webhooks.update(int(known.id), url=webhook_url, headers={}))

    # Tasks

    def upload_files(self, project_id: int, files: Sequence[Path]) -> None:
        """Import pictures as uploads, one task a file, as dropping them on the import page does."""
        for start in range(0, len(files), _UPLOAD_FILES):
            parts = [
                (path.name, (path.name, path.read_bytes(), mimetypes.guess_type(path.name)[0]))
                for path in files[start : start + _UPLOAD_FILES]
            ]
            self.api("POST", f"/api/projects/{project_id}/import", UPLOAD_S, files=parts)

    def tasks(self, project_id: int) -> dict[int, dict[str, Any]]:
        """The data of every task, by task id, in the order they were imported."""
        found: list[Any] = self._call(lambda: list(self._sdk.tasks.list(project=project_id, page_size=500)))
        return {int(task.id): dict(task.data or {}) for task in sorted(found, key=lambda t: int(t.id))}

    def retrieve_predictions(self, project_id: int) -> None:
        """Run Label Studio's own *Retrieve Predictions* action on all tasks. Returns when Label Studio is done."""
        self.api(
            "POST",
            f"/api/dm/actions?id=retrieve_tasks_predictions&project={project_id}",
            RETRIEVE_S,
            json={"selectedItems": {"all": True, "excluded": []}, "filters": {"conjunction": "and", "items": []}},
        )

    def predictions(self, project_id: int) -> list[TaskRegions]:
        found = self._call(lambda: self._sdk.predictions.list(task_project=project_id))
        return [
            TaskRegions(
                int(p.task), _regions(p.result), None if p.score is None else float(p.score), p.model_version or ""
            )
            for p in found
        ]

    def annotations(self, task_id: int) -> list[TaskRegions]:
        found = self._call(lambda: self._sdk.annotations.list(id=task_id))
        return [TaskRegions(task_id, _regions(a.result)) for a in found]

    def api(self, method: str, path: str, timeout_s: float = CALL_S, **request: Any) -> Any:
        """Call what the SDK has no call for, with the SDK's own headers (it keeps the short-lived token).

        Return the JSON of the reply, None if it is empty.
        """
        from label_studio_sdk.core.api_error import ApiError

        with self._explained():
            headers = self._sdk._client_wrapper.get_headers()
            with self._http.stream(method, self.url + path, headers=headers, timeout=timeout_s, **request) as reply:
                raw = read_whole(reply.iter_bytes(), time.monotonic() + timeout_s)
            body = json_or_text(raw)
            if not reply.is_success:
                raise ApiError(status_code=reply.status_code, body=body)
            if not raw:
                return None
            if isinstance(body, str):  # no JSON
                raise ValueError(body)
            return body

    def whole_number(self, reply: Any, name: str) -> int:
        """A member of what `api` returned."""
        value = reply.get(name) if isinstance(reply, dict) else None
        if type(value) is not int:
            raise not_label_studio(self.url)
        return value

    def _call(self, call: Callable[[], T]) -> T:
        with self._explained():
            return call()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """The one place where what the SDK and httpx raise becomes a LabelStudioError."""
        from label_studio_sdk.core.api_error import ApiError

        try:
            yield
        except ApiError as error:
            raise explain(self.url, error.status_code, error.body) from None
        except httpx.HTTPError as error:
            raise unreachable(self.url, error) from None
        except ReplyTooLong as error:
            raise LabelStudioError(str(error)) from None
        except (ValueError, TypeError):  # not JSON, or JSON of another program
            raise not_label_studio(self.url) from None


def kept_auth(found: Mapping[str, Any]) -> dict[str, str]:
    """What must be sent along with any change of a backend: the password is not told, and one left empty stays."""
    auth = {"auth_method": str(found.get("auth_method") or "NONE")}
    if auth["auth_method"] == "BASIC_AUTH":
        auth |= {"basic_auth_user": str(found.get("basic_auth_user") or ""), "basic_auth_pass": ""}
    return auth


def _text(value: object) -> str:
    """`value` if it is text. The SDK lets a reply without the field pass as None."""
    if not isinstance(value, str):
        raise ValueError(value)
    return value


def _project(found: Any) -> Project:
    return Project(id=int(found.id), title=str(found.title or ""), label_config=str(found.label_config or ""))


def _backend(found: Any) -> Backend:
    return Backend(
        id=int(found.id),
        url=str(found.url),
        title=str(found.title or ""),
        description=str(found.description or ""),
        state=str(found.state or ""),
        model_version=str(found.model_version or ""),
        extra_params=getattr(found, "extra_params", None),
    )


def _regions(result: Iterable[Any] | None) -> tuple[dict[str, Any], ...]:
    return tuple(dict(region) for region in result or ())


class ReplyTooLong(Exception):
    """Says so in a sentence."""


def read_whole(chunks: Iterable[bytes], deadline: float) -> bytes:
    """A reply's body. Raises httpx.ReadTimeout when it takes too long (by `time.monotonic`), and ReplyTooLong."""
    raw = bytearray()
    for chunk in chunks:
        raw += chunk
        if len(raw) > MAX_REPLY_BYTES:
            raise ReplyTooLong(f"Label Studio's reply is larger than {MAX_REPLY_BYTES // 2**20} MiB.")
        if time.monotonic() > deadline:
            raise httpx.ReadTimeout("the reply does not end")
    return bytes(raw)


def json_or_text(raw: bytes) -> Any:
    """The beginning of a text. Raises ReplyTooLong for what is nested too deeply."""
    try:
        return json.loads(raw)
    except ValueError:
        return raw[:4_000].decode("utf-8", "replace")
    except RecursionError:
        raise ReplyTooLong("Label Studio's reply is nested too deeply to be read.") from None
