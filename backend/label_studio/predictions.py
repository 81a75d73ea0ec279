"""Label Studio's calls that delivery needs: what a project looks like now, which tasks have a prediction, import some.

Every call is made once, has a time limit, and fails with CallFailed, whose `kind` says what is known about the call:
above all whether Label Studio may have stored what was sent. Only `import_predictions` changes anything.
Measured on Label Studio 1.23.2; the facts are beside the calls.
"""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import httpx

from backend.errors import LabelStudioError
from backend.label_studio.client import LabelStudioClient, ReplyTooLong, json_or_text, read_whole
from backend.label_studio.refusals import explain, not_label_studio, unreachable

FailureKind = Literal["unsent", "busy", "in_doubt", "unauthorized", "not_found", "too_large", "refused"]
"""Each is a `Reason`. unsent: it never got there. busy: it was turned away, waiting helps. in_doubt: it may or may not
have been done."""

READ_S = 30.0
IMPORT_S = 90.0  # Label Studio recounts every task of the project at each import: 1.6 s with 5,000 tasks
MAX_RETRY_AFTER_S = 3_600.0
_PAGE_SIZE = 1_000
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
_KINDS: dict[int, FailureKind] = {
    400: "refused", 401: "unauthorized", 403: "unauthorized", 404: "not_found", 408: "in_doubt", 413: "too_large",
    422: "refused",
}  # fmt: skip


class CallFailed(LabelStudioError):
    """`is_fault`: Label Studio itself failed on what it was asked."""

    def __init__(
        self, message: str, kind: FailureKind, retry_after_s: float | None = None, *, is_fault: bool = False
    ) -> None:
        super().__init__(message, retryable=kind in ("unsent", "busy", "in_doubt"))
        self.kind: FailureKind = kind
        self.retry_after_s = retry_after_s
        self.is_fault = is_fault


@dataclass(frozen=True, slots=True)
class CurrentProject:
    """`uid` is the project as Label Studio names it to backends: `<id>.<when it was created, in whole seconds>`."""

    uid: str
    label_config: str
    title: str = ""


def project_number(project: str) -> int | None:
    """12 for "12.1700000000"; None if it is no project of Label Studio's."""
    number = project.partition(".")[0]
    return int(number) if number.isascii() and number.isdigit() and len(number) < 19 else None


def is_same_project(project: str, current_uid: str) -> bool:
    """Whether the project of that number is still the one that asked, and not another server's or a later one."""
    return project == current_uid or project == current_uid.partition(".")[0]


class PredictionsClient(LabelStudioClient):
    """Safe to use from several threads at once."""

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        extra_ca_file: Path | None = None,
        read_s: float = READ_S,
        import_s: float = IMPORT_S,
    ) -> None:
        self._read_s = read_s
        self._import_s = import_s
        try:
            super().__init__(url, api_key, extra_ca_file=extra_ca_file)
        except LabelStudioError as error:  # a personal access token that has expired; nothing was asked yet
            raise CallFailed(str(error), "unauthorized") from None

    def check_token(self) -> None:
        """Return if the token works."""
        self._ask("GET", "/api/current-user/whoami")

    def current_project(self, project_id: int) -> CurrentProject | None:
        """The project as it is now, None if there is none (any more).

        A proxy's 404, or that of another program, is no proof that a project was deleted; Label Studio's JSON is.
        """
        try:
            found = self._ask(
                "GET", f"/api/projects/{project_id}", params={"include": "id,created_at,label_config,title"}
            )
        except _SaidNotFound:
            return None
        with self._read_as_expected():
            created = int(datetime.fromisoformat(found["created_at"]).timestamp())
            return CurrentProject(
                f"{int(found['id'])}.{created}", str(found["label_config"] or ""), str(found.get("title") or "")
            )

    def missing_tasks(self, project_id: int, task_ids: Collection[int]) -> frozenset[int]:
        """Those of `task_ids` that the project does not have (any more)."""
        return frozenset(task_ids) - self._tasks(project_id, task_ids).keys()

    def num_annotations(self, project_id: int, task_ids: Collection[int]) -> dict[int, int]:
        """How many annotations those of `task_ids` have that the project still has; skipped ones are not counted."""
        found = self._tasks(project_id, task_ids, "id,total_annotations")
        return {task_id: self.whole_number(row, "total_annotations") for task_id, row in found.items()}

    def predictions_of(self, project_id: int, task_ids: Collection[int], model_version: str) -> frozenset[int]:
        """Those of `task_ids` that have a prediction of `model_version`.

        Label Studio's filter looks for a part of the version, without regard to case; ours end in a digest.
        """
        only = {
            "filter": "filter:tasks:predictions_model_versions",
            "operator": "contains",
            "type": "List",
            "value": [model_version],
        }
        return frozenset(self._tasks(project_id, task_ids, filters={"conjunction": "and", "items": [only]}))

    def import_predictions(self, project_id: int, items: Sequence[Mapping[str, Any]]) -> int:
        """Store `items` (`{"task", "model_version", "score", "result"}`) and return how many Label Studio took.

        It leaves out what does not fit the label config and refuses all if one task is unknown.
        """
        body = json.dumps(list(items), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        reply = self._ask("POST", f"/api/projects/{project_id}/import/predictions", content=body)
        created = reply.get("created") if isinstance(reply, dict) else None
        if type(created) is not int or not 0 <= created <= len(items):
            raise self._strange("in_doubt")
        return created

    def _tasks(
        self,
        project_id: int,
        task_ids: Collection[int],
        include: str = "id",
        filters: dict[str, Any] | None = None,
    ) -> dict[int, dict[str, Any]]:
        """Those of `task_ids` that are there: 0.1 s and 2 KB for 200 of 5,000 tasks; /api/predictions has 2 MB."""
        query: dict[str, Any] = {"selectedItems": {"all": False, "included": sorted(task_ids)}}
        if filters:
            query["filters"] = filters
        found: dict[int, dict[str, Any]] = {}
        seen = 0
        for page in range(1, len(task_ids) + 2):
            reply = self._page(project_id, query, page_size=_PAGE_SIZE, include=include, page=page)
            with self._read_as_expected():
                rows, total = reply["tasks"], int(reply["total"])
                found |= {int(row["id"]): row for row in rows}
            seen += len(rows)
            if seen >= total:
                return {task_id: row for task_id, row in found.items() if task_id in task_ids}
            if not rows:
                break
        raise CallFailed("Label Studio's list of tasks changed while it was read.", "busy")  # half a list would lie

    def _page(
        self, project_id: int, query: Mapping[str, Any], *, page_size: int, include: str, page: int = 1, **more: str
    ) -> Any:
        """`review=true` keeps Label Studio from asking its ML backend, that is us, for the predictions of these tasks
        in projects with "retrieve predictions when loading a task"."""
        params = {"project": project_id, "include": include, "review": "true", "resolve_uri": "false", **more}
        text = json.dumps(query, separators=(",", ":"))
        return self._ask("GET", "/api/tasks", params={**params, "page": page, "page_size": page_size, "query": text})

    def _ask(self, method: Literal["GET", "POST", "PATCH", "DELETE"], path: str, **request: Any) -> Any:
        """Make one call and return its JSON. Raises CallFailed; for a GET, being in doubt is no more than busy."""
        try:
            return self._answered(method, path, self._token_headers(), request)
        except CallFailed as error:
            if method == "GET" and error.kind == "in_doubt":
                error.kind = "busy"
            raise

    def _token_headers(self) -> dict[str, str]:
        """The SDK's headers. It may first exchange a personal access token, which is a call of its own."""
        from label_studio_sdk.core.api_error import ApiError

        try:
            headers: dict[str, str] = self._sdk._client_wrapper.get_headers()
        except ApiError as error:
            known: FailureKind = "unauthorized" if error.status_code in (401, 403) else "unsent"
            raise CallFailed(str(explain(self.url, error.status_code, error.body)), known) from None
        except httpx.HTTPError as error:
            raise CallFailed(str(unreachable(self.url, error)), "unsent") from None
        except (ValueError, TypeError, AttributeError):  # a page of HTML, or JSON of another program
            raise self._strange("unsent") from None
        # A kept connection may be closed by the other side just as we send, which would leave us in doubt.
        return {**headers, "Content-Type": "application/json", "Connection": "close"}

    def _answered(self, method: str, path: str, headers: dict[str, str], request: dict[str, Any]) -> Any:
        timeout_s = self._read_s if method == "GET" else self._import_s
        deadline = time.monotonic() + timeout_s
        try:
            with self._http.stream(method, self.url + path, headers=headers, timeout=timeout_s, **request) as reply:
                raw = read_whole(reply.iter_bytes(), deadline)
            body = json_or_text(raw)
        except _UNSENT as error:
            raise CallFailed(str(unreachable(self.url, error)), "unsent") from None
        except ReplyTooLong as error:
            raise CallFailed(str(error), "too_large" if method == "GET" else "in_doubt") from None
        except httpx.HTTPError as error:
            raise CallFailed(str(unreachable(self.url, error)), "in_doubt") from None
        if reply.is_success:
            if isinstance(body, str):
                raise self._strange("in_doubt")
            return body
        raise self._refusal(reply, body)

    def _refusal(self, reply: httpx.Response, body: Any) -> CallFailed:
        status = reply.status_code
        kind = _KINDS.get(status, "in_doubt" if status >= 500 else "busy")
        text = str(explain(self.url, status, body))
        of_label_studio = isinstance(body, dict) and "detail" in body and "version" in body
        if kind == "refused" and not of_label_studio:
            kind = "busy"  # a gateway's own refusal says nothing about the predictions
        if kind == "not_found" and of_label_studio:
            return _SaidNotFound(text, kind)
        return CallFailed(text, kind, _retry_after_s(reply.headers.get("Retry-After", "")), is_fault=status == 500)

    @contextmanager
    def _read_as_expected(self) -> Iterator[None]:
        """Raises CallFailed where the block finds the JSON of another program."""
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self._strange("busy") from None

    def _strange(self, kind: FailureKind) -> CallFailed:
        return CallFailed(str(not_label_studio(self.url)), kind)


class _SaidNotFound(CallFailed):
    """404 in Label Studio's own words."""


def _retry_after_s(header: str) -> float | None:
    """Seconds, or an HTTP date; None if it is neither."""
    try:
        wait_s = float(header)
    except ValueError:
        try:
            wait_s = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(wait_s, 1.0), MAX_RETRY_AFTER_S) if wait_s == wait_s else None
