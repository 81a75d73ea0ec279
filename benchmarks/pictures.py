"""Pictures over HTTP on loopback, for benchmarks that go the whole way of a request. Knows no backend."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from training import dataset


@contextmanager
def picture_server(num: int = 100) -> Iterator[str]:
    """Serve the first `num` Fashion-MNIST test pictures as /0.png, /1.png ..., and yield the address."""
    images = dataset.read_split(dataset.DEFAULT_FOLDER, "t10k")[0][:num]

    @lru_cache(maxsize=num)
    def png(number: int) -> bytes:
        buffer = io.BytesIO()
        dataset.enlarge(images[number]).save(buffer, "PNG")
        return buffer.getvalue()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            content = png(int(self.path.strip("/").partition(".")[0]) % len(images))
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *args: Any) -> None:
            """The backend hangs up at its deadline; that is no error of ours."""

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
