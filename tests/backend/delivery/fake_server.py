"""The part of Label Studio that delivery meets, over real HTTP, with faults that happen once each, in order.

It behaves as Label Studio 1.23.2 was seen to: no uniqueness of predictions, a batch refused whole for one unknown task,
misfits left out in silence, and 404 as a page of HTML for an import into a project that is gone.
One call after the other is answered, so what was sent first is stored first, however late the client gave up.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.backend.fake_label_studio import ACCESS_KEY, LEGACY_KEY, PERSONAL_KEY

CONFIG = '<View><Image name="image" value="$image"/><TextArea name="text" toName="image"/></View>'
CREATED_AT = "2023-11-14T22:13:20.987654Z"
CREATED = 1_700_000_000
PAGE = "<!doctype html><html><body>Bad Gateway</body></html>"

Reply = tuple[int, Any, dict[str, str]]


@dataclass
class FakeServer:
    """`rows` are the stored predictions. `faults[kind]` are used up one a call; kinds: import, read, token.

    "slow" and "slow_commit" end when the client has given up, "held" when `release` is set.
    """

    url: str = ""
    tasks: dict[int, set[int]] = field(default_factory=dict)
    annotated: set[int] = field(default_factory=set)
    configs: dict[int, str] = field(default_factory=dict)
    rows: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    faults: dict[str, deque[str]] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    keys: set[str] = field(default_factory=lambda: {f"Token {LEGACY_KEY}", f"Bearer {ACCESS_KEY}"})
    late: list[tuple[int, list[dict[str, Any]]]] = field(default_factory=list)
    misfits: set[int] = field(default_factory=set)
    disliked: set[int] = field(default_factory=set)
    down_for: set[int] = field(default_factory=set)
    forbidden: set[int] = field(default_factory=set)
    max_items: int = 10_000
    max_page: int = 10_000
    backend_asked: int = 0
    release: Event = field(default_factory=Event)

    def add_project(self, number: int, num_tasks: int, config: str = CONFIG) -> str:
        """Returns its uid. Task ids are 1,000 times the project's number and up."""
        self.tasks[number] = {1_000 * number + i for i in range(num_tasks)}
        self.configs[number] = config
        return f"{number}.{CREATED}"

    def fail(self, kind: str, *faults: str) -> None:
        self.faults.setdefault(kind, deque()).extend(faults)

    def settle(self) -> None:
        """Let Label Studio finish what it was still doing when its reply was lost."""
        for project, items in self.late:
            self.store(project, items)
        self.late.clear()

    def stored(self, version: str | None = None) -> Counter[int]:
        """How many predictions each task has."""
        return Counter(item["task"] for _, item in self.rows if version in (None, item["model_version"]))

    @property
    def changes(self) -> set[str]:
        """What was called that changes anything."""
        return {path for method, path in self.calls if method != "GET" and "/token/" not in path}

    @property
    def num_imports(self) -> int:
        return sum(method == "POST" and path.endswith("/predictions") for method, path in self.calls)

    def store(self, project: int, items: list[dict[str, Any]]) -> int:
        taken = [item for item in items if item["task"] not in self.misfits]
        self.rows += [(project, item) for item in taken]
        return len(taken)

    def answer(self, method: str, url: str, auth: str, body: Any, given_up: Callable[[], object]) -> Reply | None:
        """None: close the connection without a word. `given_up` returns when the client has closed it."""
        parts = urlsplit(url)
        path = parts.path.rstrip("/")
        kind = "token" if "/token/" in path else "import" if method == "POST" else "read"
        self.calls.append((method, path))
        queue = self.faults.get(kind)
        fault = queue.popleft() if queue else ""
        if fault == "slow":
            given_up()
        if fault == "held":
            self.release.wait()
        simple = _simple(fault)
        if fault == "413" and len(body) == 1:
            simple = None  # a gateway's limit is one of size
        if simple or fault in ("reset", "slow"):
            return simple
        if kind == "token":
            good = body["refresh"] == PERSONAL_KEY
            return (200, {"access": ACCESS_KEY}, {}) if good else said(401, "Token is invalid")
        if auth not in self.keys:
            return said(401, "Invalid token.")
        if path == "/api/current-user/whoami":
            return 200, {"id": 1, "email": "a@example.com"}, {}
        if path == "/api/tasks":
            return self._some_tasks({name: values[0] for name, values in parse_qs(parts.query).items()})
        if not path.startswith("/api/projects/"):
            return said(404, "Not found.")
        number = int(path.split("/")[3])
        if number in self.down_for:
            return None
        if number in self.forbidden:
            return said(403, "You do not have permission to perform this action.")
        if method == "POST":
            reply = self._import(number, body, fault)
            if fault == "slow_commit":
                given_up()
            return reply
        if number not in self.tasks:
            return said(404, "No Project matches the given query.")
        found = {"id": number, "title": f"project {number}", "created_at": CREATED_AT}
        return 200, {**found, "label_config": self.configs[number], "task_number": len(self.tasks[number])}, {}

    def _some_tasks(self, query: dict[str, str]) -> Reply:
        self.backend_asked += query.get("review") != "true"
        project = int(query["project"])
        if project not in self.tasks:
            return said(404, "No Project matches the given query.")
        asked = json.loads(query["query"])
        found = sorted(self.tasks[project] & set(asked["selectedItems"]["included"]))
        if "filters" in asked:
            [only] = asked["filters"]["items"]
            [part] = only["value"]
            having = {item["task"] for _, item in self.rows if part.lower() in item["model_version"].lower()}
            found = [task for task in found if task in having]
        size = min(self.max_page, int(query["page_size"]))
        start = (int(query["page"]) - 1) * size
        rows = [{"id": task, "total_annotations": int(task in self.annotated)} for task in found]
        return 200, {"total": len(rows), "tasks": rows[start : start + size]}, {}

    def _import(self, project: int, items: list[dict[str, Any]], fault: str) -> Reply | None:
        if project not in self.tasks:
            return 404, PAGE, {}
        if len(items) > self.max_items:
            return 413, PAGE, {}
        for item in items:
            if item["task"] not in self.tasks[project] or item["task"] in self.disliked:
                return said(400, "Validation error", non_field_errors=[f"{item} contains invalid field"])
        if fault == "commit_later_reset":
            self.late.append((project, items))
            return None
        created = self.store(project, items)
        if fault in ("commit_reset", "slow_commit"):
            return None
        if fault == "commit_500":
            return said(500, "database is locked")
        if fault == "commit_502":
            return 502, PAGE, {}
        return 201, {} if fault == "commit_wrong" else {"created": created}, {}


def said(status: int, text: str, **validation_errors: list[str]) -> Reply:
    """An error as Label Studio writes it."""
    body: dict[str, Any] = {"status_code": status, "version": "1.23.2", "detail": text, "exc_info": None}
    return status, body | ({"validation_errors": validation_errors} if validation_errors else {}), {}


def _simple(fault: str) -> Reply | None:
    """Faults that need no knowledge of the call: a status, or a reply of something that is not Label Studio."""
    if fault.startswith("429"):
        return 429, {"detail": "throttled"}, {"Retry-After": fault[4:] or "120"}
    if fault == "200 html":
        return 200, PAGE, {}
    if fault.isdigit():
        return int(fault), PAGE, {}
    return None


@contextmanager
def fake_server() -> Iterator[FakeServer]:
    fake = FakeServer()

    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            reply = fake.answer(self.command, self.path, self.headers.get("Authorization", ""), body, self._given_up)
            self.close_connection = True
            if reply is None:
                return
            status, answer, headers = reply
            raw = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(raw))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

        def _given_up(self) -> None:
            with suppress(ConnectionError):
                self.connection.recv(1)

        do_GET = do_POST = do_PATCH = do_DELETE = _reply  # noqa: N815 - names of the base class

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        fake.release.set()
        server.shutdown()
        thread.join()
        server.server_close()
