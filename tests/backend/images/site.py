"""A real web server on 127.0.0.1 whose replies are functions that write raw bytes: as bad as a test needs them."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.limits import WAIT_S

CRLF = b"\r\n"


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Answer = Callable[[socket.socket, Request], None]


def reply(body: bytes = b"", status: int = 200, **headers: str) -> Answer:
    """A correct reply. Header names are written with underscores."""

    def write(peer: socket.socket, _: Request) -> None:
        lines = [f"HTTP/1.1 {status} Word", f"Content-Length: {len(body)}", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        peer.sendall("\r\n".join(lines).encode() + CRLF * 2 + body)

    return write


def redirect(location: str, status: int = 302) -> Answer:
    return reply(status=status, Location=location)


def raw(data: bytes) -> Answer:
    return lambda peer, _: peer.sendall(data)


def drip(data: bytes, every_s: float, stop: threading.Event) -> Answer:
    """The head at once, then one byte at a time."""

    def write(peer: socket.socket, _: Request) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data))
        for byte in data:
            if stop.wait(every_s):
                return
            peer.sendall(bytes([byte]))

    return write


def silence() -> Answer:
    """Says nothing until the other side hangs up."""

    def write(peer: socket.socket, _: Request) -> None:
        while peer.recv(1):
            pass

    return write


def in_turn(*answers: Answer) -> Answer:
    """The first answer to the first request, and so on; the last one again and again."""
    left = list(answers)
    return lambda peer, request: (left.pop(0) if len(left) > 1 else left[0])(peer, request)


@dataclass
class Site:
    """`routes`: path without query -> answer. `requests`: what came in, in order."""

    routes: dict[str, Answer] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)
    num_connections: int = 0
    num_open: int = 0
    most_at_once: int = 0

    def __post_init__(self) -> None:
        self.stop = threading.Event()
        self._lock = threading.Lock()
        site = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with site._lock:
                    site.num_connections += 1
                    site.num_open += 1
                    site.most_at_once = max(site.most_at_once, site.num_open)
                with contextlib.suppress(OSError):  # the fetcher may hang up at any time
                    site._serve(self.request)
                with site._lock:
                    site.num_open -= 1

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{path}"

    def paths(self) -> list[str]:
        return [request.path for request in self.requests]

    def close(self) -> None:
        self.stop.set()
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, peer: socket.socket) -> None:
        peer.settimeout(WAIT_S)
        if self.tls:
            peer = self.tls.wrap_socket(peer, server_side=True)
        with peer:
            request = _read(peer)
            if request is None:
                return
            self.requests.append(request)
            answer = self.routes.get(request.path.partition("?")[0], reply(b"no such page", status=404))
            answer(peer, request)


def _read(peer: socket.socket) -> Request | None:
    data = b""
    while CRLF * 2 not in data:
        piece = peer.recv(65536)
        if not piece:
            return None
        data += piece
        if data[0] == 0x16:  # a TLS greeting
            peer.sendall(b"HTTP/1.1 400 This is plain HTTP\r\n\r\n")
            return None
    head, _, body = data.partition(CRLF * 2)
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        body += peer.recv(65536)
    method, path, _ = first.split(" ", 2)
    return Request(method, path, headers, body)
