"""A Label Studio over real HTTP that knows the calls of `label_studio.client`, one user and any number of projects.

At the same address it is the backend that /health tells of. `refusals` maps (method, path prefix) to the (status, body)
to answer instead, `redirects` a path to where it leads; `calls` lists what was asked of Label Studio.
"""

from __future__ import annotations

import base64
import json
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

LEGACY_KEY = "a" * 40
CREATED_AT = "2023-11-14T22:13:20.987654Z"
CREATED = 1_700_000_000


def _jwt(kind: str) -> str:
    claims = {"token_type": kind, "exp": int(time.time()) + 24 * 3600}  # made once, for tests that may run for hours
    parts = [base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in ({"alg": "HS256"}, claims)]
    return ".".join([*parts, "c2lnbmF0dXJl"])


PERSONAL_KEY = _jwt("refresh")
ACCESS_KEY = _jwt("access")


def healthy(model: str, language: str = "zh") -> tuple[int, Any]:
    """What a backend says whose model is loaded."""
    return 200, {"status": "UP", "model": {"state": "ready", "name": model}, "language": language}


class FakeLabelStudio:
    def __init__(self) -> None:
        self.url = ""
        self.projects: dict[int, dict[str, Any]] = {}
        self.backends: dict[int, dict[str, Any]] = {}
        self.webhooks: dict[int, dict[str, Any]] = {}
        self.views: dict[int, dict[str, Any]] = {}
        self.num_in_tab = 0
        self.model_version = "m-1"
        self.health: tuple[int, Any] = healthy("Qwen3-VL-30B-A3B-Instruct")
        self.calls: list[tuple[str, str]] = []
        self.refusals: dict[tuple[str, str], tuple[int, Any]] = {}
        self.redirects: dict[str, str] = {}

    def add_project(self, title: str, label_config: str) -> int:
        number = len(self.projects) + 1
        self.projects[number] = {
            "id": number, "title": title, "label_config": label_config, "task_number": 0,
            "total_predictions_number": 0, "sampling": "Sequential sampling", "created_at": CREATED_AT,
        }  # fmt: skip
        return number

    @property
    def changes(self) -> list[tuple[str, str]]:
        """What was asked that is no reading and no token."""
        return [call for call in self.calls if call[0] != "GET" and "/token/" not in call[1]]

    def answer(self, method: str, url: str, auth: str, body: Any) -> tuple[int, Any]:
        parts = urlsplit(url)
        path = parts.path.rstrip("/")
        if path == "/health":
            return self.health
        self.calls.append((method, path))
        for (wanted, prefix), refusal in self.refusals.items():
            if method == wanted and path.startswith(prefix):
                return refusal
        if path == "/api/version":
            return 200, {"release": "1.23.2"}
        if path == "/api/token/refresh":
            good = body["refresh"] == PERSONAL_KEY
            return (200, {"access": ACCESS_KEY}) if good else (401, {"detail": "Token is invalid"})
        if auth not in (f"Token {LEGACY_KEY}", f"Bearer {ACCESS_KEY}"):
            return 401, {"detail": "Invalid token."}
        if path == "/api/current-user/whoami":
            return 200, {"id": 1, "email": "a@example.com"}
        _, _, kind, *rest = path.replace("/dm/", "/").split("/")
        if kind == "tasks":
            return 200, {"total": self.num_in_tab, "tasks": []}
        if rest == ["order"]:
            self.views = {number: self.views[number] for number in body["ids"]}
            return 200, None
        if rest[1:] == ["validate"]:
            return 200, {"config_essential_data_has_changed": True}
        number = int(rest[0]) if rest else None
        stores = {"projects": self.projects, "ml": self.backends, "webhooks": self.webhooks, "views": self.views}
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        return self._store(method, kind, stores[kind], number, query, body)

    def _store(
        self, method: str, kind: str, rows: dict[int, dict[str, Any]], number: int | None, query: Any, body: Any
    ) -> tuple[int, Any]:
        if number is not None and number not in rows:
            return 404, {"detail": "No Project matches the given query."}
        if kind == "ml":
            for backend in rows.values():
                backend |= {"model_version": self.model_version, "state": "CO"}
        if number is None and method == "GET":
            found = list(rows.values())
            if kind != "projects":
                return 200, found
            if query.get("page", "1") != "1":
                return 200, {"count": len(found), "next": None, "previous": None, "results": []}
            return 200, {"count": len(found), "next": None, "previous": None, "results": found}
        if number is None:
            number = max(rows, default=0) + 1
            rows[number] = {"id": number}
            if kind == "projects":
                rows[number] |= {"task_number": 0, "total_predictions_number": 0, "sampling": "Sequential sampling"}
            if kind == "ml":
                webhook = max(self.webhooks, default=0) + 1
                url = body["url"].rstrip("/") + "/webhook"
                self.webhooks[webhook] = {"id": webhook, "url": url, "project": body["project"], "headers": {}}
        if method == "DELETE":
            del rows[number]
            return 204, None
        rows[number] |= body or {}
        if kind == "ml":
            rows[number] |= {"model_version": self.model_version, "state": "CO"}
        return 200, rows[number]


@contextmanager
def fake_label_studio(context: ssl.SSLContext | None = None) -> Iterator[FakeLabelStudio]:
    fake = FakeLabelStudio()

    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, answer = fake.answer(self.command, self.path, self.headers.get("Authorization", ""), body)
            raw = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            location = fake.redirects.get(urlsplit(self.path).path.rstrip("/"))
            self.send_response(302 if location else status)
            if location:
                self.send_header("Location", location)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(0 if status == 204 else len(raw)))
            self.end_headers()
            if status != 204:
                self.wfile.write(raw)

        do_GET = do_POST = do_PATCH = do_DELETE = _reply  # noqa: N815 - names of the base class

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    fake.url = f"http{'s' if context else ''}://127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
