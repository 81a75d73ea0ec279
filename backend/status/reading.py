"""A running backend as our own commands ask it: /status.json, and a trial. Raises PrelabelError with the next step."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from backend.errors import PrelabelError
from backend.status.view import StatusView

if TYPE_CHECKING:
    from backend.predict.trial import Trial, TrialReply

T = TypeVar("T")

TIMEOUT_S = 10.0
TRIAL_S = 900.0
"""For some tens of pictures, on a CPU and behind other work."""
MAX_MESSAGE_CHARS = 500
_adapter = TypeAdapter(StatusView)


class StatusReader:
    """Of the backend at `url`. Use as a context manager. An empty password means none."""

    def __init__(self, url: str, user: str = "prelabel", password: str = "", timeout_s: float = TIMEOUT_S) -> None:
        self._url = url
        self._timeout_s = timeout_s
        auth = httpx.BasicAuth(user, password) if password else None
        try:
            # the environment's proxies are not for the machine next door
            self._client = httpx.Client(base_url=url, auth=auth, trust_env=False)
            if self._client.base_url.scheme not in ("http", "https") or not self._client.base_url.host:
                raise httpx.InvalidURL("not http")
        except httpx.InvalidURL:
            raise PrelabelError("--url must be an address such as http://127.0.0.1:9090.") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.close()

    def view(self) -> StatusView:
        return self._read(_adapter.validate_json, self.text())

    def text(self) -> str:
        """The JSON as it came."""
        return self._asked("GET", "status.json", self._timeout_s)

    def trial(self, trial: Trial, timeout_s: float = TRIAL_S) -> TrialReply:
        """See `backend.predict.trial`, which only who asks for one imports: it opens pictures."""
        from backend.predict.trial import TrialReply

        text = self._asked("POST", "trial", timeout_s, content=trial.model_dump_json().encode())
        return self._read(TrialReply.model_validate_json, text)

    def _read(self, read: Callable[[str], T], text: str) -> T:
        try:
            return read(text)
        except ValidationError:
            raise PrelabelError(
                f"The backend at {self._url} is of another version of prelabel than this command."
            ) from None

    def _asked(self, method: str, path: str, timeout_s: float, content: bytes | None = None) -> str:
        try:
            headers = {} if content is None else {"content-type": "application/json"}
            reply = self._client.request(method, path, content=content, headers=headers, timeout=timeout_s)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise PrelabelError(
                f"No backend answers at {self._url} ({type(error).__name__}). Is `prelabel serve` running?"
            ) from None
        if reply.status_code == 401:
            raise PrelabelError(
                f"The backend at {self._url} wants a password. Set BASIC_AUTH_USER and BASIC_AUTH_PASS as it was "
                "started."
            )
        if reply.status_code == 403:
            raise PrelabelError(
                f"The backend at {self._url} has no password and was not told of this name. Ask it as localhost, or "
                "name the host in its PRELABEL_ALLOWED_HOSTS."
            )
        is_json = "json" in reply.headers.get("content-type", "")
        if reply.status_code == 503 and is_json:
            raise PrelabelError(f"The backend at {self._url} cannot answer now: {_message(reply)}")
        if reply.status_code != 200 or not is_json:
            raise PrelabelError(
                f"What answers at {self._url} is no prelabel backend, or an older one (HTTP {reply.status_code})."
            )
        return reply.text


def _message(reply: httpx.Response) -> str:
    """Of a refusal."""
    try:
        return str(reply.json()["error"]["message"])[:MAX_MESSAGE_CHARS].rstrip(".") + "."
    except (ValueError, KeyError, TypeError):
        return f"HTTP {reply.status_code}."
