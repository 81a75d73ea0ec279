"""A Label Studio over real HTTP with one project, whose tasks are as /api/tasks of 1.23.2 gives them; read only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.backend.fake_label_studio import CREATED, CREATED_AT, LEGACY_KEY

PROJECT = f"12.{CREATED}"
NAMES = {"id", "data", "updated_at", "total_annotations", "cancelled_annotations", "annotations", "predictions"}


@dataclass
class TasksServer:
    """`odd`: what /api/tasks answers instead. `calls`: method, path and query."""

    label_config: str
    url: str = ""
    tasks: dict[int, dict[str, Any]] = field(default_factory=dict)
    odd: Any = None
    calls: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def add(
        self, number: int, minute: int, *annotations: Any, predictions: tuple[Any, ...] = (), image: str = ""
    ) -> None:
        skipped = sum(one["was_cancelled"] for one in annotations)
        self.tasks[number] = {
            "id": number, "updated_at": at(minute), "total_annotations": len(annotations) - skipped,
            "cancelled_annotations": skipped, "annotations": list(annotations), "predictions": list(predictions),
            "data": {"image": image or f"https://shop.example/{number}.jpg"},
        }  # fmt: skip

    def answer(self, method: str, path: str, query: dict[str, str], auth: str) -> tuple[int, Any]:
        self.calls.append((method, path, query))
        if auth != f"Token {LEGACY_KEY}":
            return 401, {"detail": "Invalid token."}
        if path == "/api/projects/12":
            project = {"id": 12, "title": "秋装", "created_at": CREATED_AT, "label_config": self.label_config}
            return 200, project
        if path != "/api/tasks":
            body = {"status_code": 404, "version": "1.23.2", "detail": "No Project matches the given query."}
            return 404, body
        return 200, self.odd or self._tasks(query)

    def _tasks(self, query: dict[str, str]) -> Any:
        asked = json.loads(query["query"])
        found = [task for _, task in sorted(self.tasks.items()) if fits(task, asked)]
        if asked.get("ordering") == ["-tasks:updated_at"]:
            found.sort(key=lambda task: task["updated_at"], reverse=True)
        size, names = int(query["page_size"]), set(query["include"].split(","))
        page = [
            {name: value for name, value in task.items() if name in names & NAMES}
            | ({"annotations": named(task["annotations"], names)} if query.get("fields") == "all" else {})
            for task in found[:size]
        ]
        return {
            "total": len(found), "total_annotations": sum(task["total_annotations"] for task in found), "tasks": page,
        }  # fmt: skip


def named(annotations: list[Any], names: set[str]) -> list[Any]:
    """Label Studio leaves out of an annotation, too, what was not asked for."""
    return [{name: value for name, value in one.items() if name in names} for one in annotations]


def fits(task: dict[str, Any], asked: dict[str, Any]) -> bool:
    selected = asked.get("selectedItems")
    if selected is not None and task["id"] not in selected["included"]:
        return False
    for item in asked.get("filters", {"items": ()})["items"]:
        value = task[item["filter"].removeprefix("filter:tasks:")]
        if item["type"] == "Datetime":
            since = datetime.strptime(item["value"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
            if datetime.fromisoformat(value) < since:
                return False
        elif value <= item["value"]:
            return False
    return True


def at(minute: int) -> str:
    return f"2026-11-30T14:{minute:02}:00.123456Z"


def prediction(number: int, version: str, minute: int, regions: list[Any], score: float = 0.9) -> dict[str, Any]:
    return {
        "id": number, "model_version": version, "created_at": at(minute), "score": score, "result": regions,
        "created_ago": "0 minutes", "model": None, "task": 1, "project": 12,
    }  # fmt: skip


def annotation(number: int, minute: int, regions: list[Any], **more: Any) -> dict[str, Any]:
    return {
        "id": number, "created_at": at(minute), "updated_at": at(minute), "result": regions, "lead_time": 9.5,
        "completed_by": 4, "created_username": "Zhang San z@example.com, 4", "was_cancelled": False,
        "ground_truth": False, "parent_prediction": None, "draft_created_at": None, **more,
    }  # fmt: skip


@contextmanager
def tasks_server(label_config: str) -> Iterator[TasksServer]:
    fake = TasksServer(label_config)

    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            path, auth = parts.path.rstrip("/"), self.headers.get("Authorization", "")
            status, answer = fake.answer(self.command, path, query, auth)
            raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = do_PATCH = do_DELETE = _reply  # noqa: N815 - names of the base class

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
