"""A Hugging Face hub on 127.0.0.1: the four requests that snapshot_download makes, serving files of a folder."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "someone/tiny"
EXPIRED = "hf_anexpiredtoken"


class FakeHub:
    """`files` maps name to content; `sent` lists the names whose content was sent; `commit` is the newest one.

    `trouble`: "login page" of a network in the place of every reply, or "cut": the connection, before one.
    """

    def __init__(self, folder: Path) -> None:
        self.commit = COMMIT
        self.files = {file.name: file.read_bytes() for file in folder.iterdir()}
        self.sent: list[str] = []
        self.url = ""
        self.trouble = ""

    def answer(self, handler: BaseHTTPRequestHandler, *, with_body: bool) -> None:
        path = unquote(urlsplit(handler.path).path)
        if self.trouble == "cut":
            handler.close_connection = True
            handler.connection.close()
        elif self.trouble:
            _send(handler, 200, b"<html>Log in, please</html>", with_body=with_body)
        elif handler.headers.get("Authorization", "").endswith(EXPIRED):
            _send(handler, 401, b'{"error":"Invalid credentials in Authorization header"}', with_body=with_body)
        elif path.startswith(f"/api/models/{REPO}/tree/"):
            tree = [{"type": "file", "path": n, "size": len(c), "oid": _etag(c)} for n, c in self.files.items()]
            _send(handler, 200, json.dumps(tree).encode(), with_body=with_body)
        elif path in {f"/api/models/{REPO}", f"/api/models/{REPO}/revision/main", f"/api/models/{REPO}/revision/v1"}:
            body = json.dumps({"id": REPO, "sha": self.commit, "siblings": []}).encode()
            _send(handler, 200, body, with_body=with_body)
        elif path.startswith(f"/{REPO}/resolve/") and path.rpartition("/")[2] in self.files:
            commit, name = path.split("/")[-2:]
            if with_body:
                self.sent.append(name)
            content = self.files[name]
            _send(handler, 200, content, with_body=with_body, etag=_etag(content), commit=commit)
        elif path.startswith(f"/api/models/{REPO}/revision/"):
            _send(handler, 404, b"", with_body=with_body, error="RevisionNotFound")
        else:
            _send(handler, 404, b"", with_body=with_body, error="RepoNotFound")


@contextmanager
def serve(folder: Path) -> Iterator[FakeHub]:
    hub = FakeHub(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            hub.answer(self, with_body=False)

        def do_GET(self) -> None:
            hub.answer(self, with_body=True)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _etag(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _send(
    handler: BaseHTTPRequestHandler,
    status: int,
    body: bytes,
    *,
    with_body: bool,
    etag: str = "",
    error: str = "",
    commit: str = COMMIT,
) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.send_header("X-Repo-Commit", commit)
    if etag:
        handler.send_header("ETag", f'"{etag}"')
    if error:
        handler.send_header("X-Error-Code", error)
    handler.end_headers()
    if with_body:
        handler.wfile.write(body)
