"""Is it Label Studio at that address, and does it accept the token: two or three small calls, asked of it as it is.

Without the SDK, which costs seconds to import and says of a wrong address only that it did not understand. Facts of
Label Studio 1.23.2: /api/version/ answers without a token, and below any path, too; /api/current-user/whoami says whose
a token is; a personal access token buys a short-lived one at /api/token/refresh/.
Raises Trouble, whose `code` has its words in `backend.pages.check_words`, and SettingsError for a file of authorities.
"""

from __future__ import annotations

import json
import socket
import ssl
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from backend.errors import PrelabelError
from backend.label_studio.address import is_on_this_machine, site_of
from backend.label_studio.refusals import detail
from backend.label_studio.tls import tls_context
from backend.label_studio.tokens import jwt_claims

CALL_S = 5.0
MAX_REPLY_BYTES = 2**20
_VERSION = "/api/version/"


class Trouble(PrelabelError):
    def __init__(self, code: str, **values: str) -> None:
        super().__init__(code)
        self.code = code
        self.values = values


class Probe:
    """Of the Label Studio at `url`. Use as a context manager. Each call takes about `call_s` at most."""

    def __init__(self, url: str, *, extra_ca_file: Path | None = None, call_s: float = CALL_S) -> None:
        self.url = url.rstrip("/")
        self._call_s = call_s
        trust_env = not is_on_this_machine(self.url)
        context = tls_context(extra_ca_file)
        self._http = httpx.Client(timeout=call_s, follow_redirects=False, trust_env=trust_env, verify=context)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def version(self) -> str:
        """Label Studio's version, when it is Label Studio."""
        status, body, location = self._ask("GET", _VERSION)
        if location:
            raise self._redirected(location, status)
        if status in (401, 403):
            raise Trouble("address_login", url=self.url, status=str(status))
        if status >= 500 or status == 429:
            raise Trouble("address_error", url=self.url, status=str(status))
        if status == 400 and isinstance(body, str) and "https" in body.lower():
            raise Trouble("address_needs_tls", url=self.url, site=self.url.replace("http://", "https://", 1))
        release = body.get("release") if isinstance(body, dict) else None
        if status != 200 or not isinstance(release, str):
            raise self._other(status, body)
        return release

    def owner(self, api_key: str) -> str:
        """The e-mail of the user whose token `api_key` is, when Label Studio accepts it."""
        status, body, _ = self._ask(
            "GET", "/api/current-user/whoami", authorization=self._authorization(api_key.strip())
        )
        if status == 200 and isinstance(body, dict) and isinstance(body.get("email"), str):
            return str(body["email"])
        if status in (401, 403):
            raise self._refused(status, body)
        raise self._unexpected(status, body)

    def _authorization(self, api_key: str) -> str:
        claims = jwt_claims(api_key)
        if claims is None:
            return f"Token {api_key}"
        expires_at = expiry(api_key)
        if expires_at is not None and expires_at <= time.time():
            raise Trouble("token_expired")
        if claims.get("token_type") == "access":
            raise Trouble("token_short")
        status, body, _ = self._ask("POST", "/api/token/refresh/", {"refresh": api_key})
        if status == 200 and isinstance(body, dict) and isinstance(body.get("access"), str):
            return f"Bearer {body['access']}"
        if status in (401, 403):
            raise self._refused(status, body)
        raise self._unexpected(status, body)

    def _refused(self, status: int, body: Any) -> Trouble:
        said = detail(body)
        if "legacy token" in said.lower():
            return Trouble("token_legacy")
        if status == 403:
            return Trouble("token_forbidden", said=said[:200])
        return Trouble("token_refused")

    def _unexpected(self, status: int, body: Any) -> Trouble:
        """What Label Studio itself would not have answered."""
        if status >= 500 or status == 429:
            return Trouble("address_error", url=self.url, status=str(status))
        return self._other(status, body)

    def _other(self, status: int, body: Any) -> Trouble:
        kind = "HTML" if isinstance(body, str) and "<" in body else "JSON" if isinstance(body, dict | list) else ""
        what = ", ".join(part for part in (f"HTTP {status}", kind) if part)
        return Trouble("address_other", url=self.url, what=what)

    def _redirected(self, location: str, status: int) -> Trouble:
        """By where it leads: the same over https, the same elsewhere, or somewhere to log in."""
        target = str(httpx.URL(self.url + _VERSION).join(location))
        if not urlsplit(target).path.rstrip("/").endswith(_VERSION.rstrip("/")):
            return Trouble("address_login", url=self.url, status=str(status))
        site = site_of(target)
        if site == self.url.replace("http://", "https://", 1):
            return Trouble("address_needs_tls", url=self.url, site=site)
        return Trouble("address_moved", url=self.url, site=site)

    def _ask(self, method: str, path: str, body: Any = None, *, authorization: str = "") -> tuple[int, Any, str]:
        """Status, JSON or text, and where a redirect leads ("" for none)."""
        headers = {"Authorization": authorization} if authorization else {}
        deadline = time.monotonic() + self._call_s
        raw = bytearray()
        try:
            with self._http.stream(method, self.url + path, json=body, headers=headers) as reply:
                for chunk in reply.iter_bytes():
                    raw += chunk
                    if len(raw) > MAX_REPLY_BYTES or time.monotonic() > deadline:
                        raise Trouble("address_slow", url=self.url, limit=f"{self._call_s:g}")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._no_reply(error) from None
        location = reply.headers.get("Location", "") if reply.is_redirect else ""
        try:
            return reply.status_code, json.loads(raw), location
        except (ValueError, RecursionError):
            return reply.status_code, raw[:4_000].decode("utf-8", "replace"), location

    def _no_reply(self, error: Exception) -> Trouble:
        causes = _causes(error)
        text = " ".join(str(cause) for cause in causes)
        if any(isinstance(cause, socket.gaierror) for cause in causes):
            return Trouble("address_no_host", host=urlsplit(self.url).hostname or self.url)
        if "CERTIFICATE_VERIFY_FAILED" in text:
            return Trouble("address_certificate", url=self.url)
        if any(isinstance(cause, ssl.SSLError) for cause in causes):
            return Trouble("address_no_tls", url=self.url, site=self.url.replace("https://", "http://", 1))
        if isinstance(error, httpx.TimeoutException):
            return Trouble("address_slow", url=self.url, limit=f"{self._call_s:g}")
        if isinstance(error, httpx.RemoteProtocolError | httpx.ReadError) and self.url.startswith("http://"):
            return Trouble("address_garbled", url=self.url, site=self.url.replace("http://", "https://", 1))
        return Trouble("address_down", url=self.url)


def expiry(api_key: str) -> float | None:
    """When a personal access token expires, in seconds since the epoch; None for what does not say."""
    expires_at = (jwt_claims(api_key) or {}).get("exp")
    return float(expires_at) if isinstance(expires_at, int | float) else None


def _causes(error: BaseException) -> list[BaseException]:
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    return causes
