"""Fashion-MNIST's test pictures as the benchmarks show them: as files, over HTTP on loopback, and asked about."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from PIL import Image

from backend.engine.messages import Picture, Sampling, Submit
from label_config.prompt import PromptOptions, build_instruction
from training import dataset
from training.rules import LABELS, Labels
from training.variants import shipped_schema

NUM = 10_000
FIELDS = ("category", "style", "season", "scene")
"""Those of `Labels`."""


@cache
def _split() -> Any:
    """Pixels and classes."""
    return dataset.read_split(dataset.DEFAULT_FOLDER, "t10k")


def labels_of(number: int) -> Labels:
    """What is right for test picture `number`, by our rule."""
    return LABELS["zh"][int(_split()[1][number])]


@cache
def _png(number: int) -> bytes:
    buffer = io.BytesIO()
    picture_of(number).save(buffer, "PNG")
    return buffer.getvalue()


def write_pictures(folder: Path, num: int) -> list[Path]:
    """Write the first `num` as 00000.png, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:05}.png" for number in range(num)]
    for number, path in enumerate(paths):
        path.write_bytes(_png(number))
    return paths


def picture_of(number: int) -> Image.Image:
    return dataset.enlarge(_split()[0][number])


def request_about(number: int, image: Image.Image | None = None, sampling: Sampling | None = None) -> Submit:
    """Ask as the backend does about test picture `number`, or about `image`; sampled with the number as seed unless
    `sampling` says otherwise."""
    shown = (image or picture_of(number)).convert("RGB")
    schema = shipped_schema("zh")
    return Submit(
        request_id=number,
        schema=schema,
        instruction=build_instruction(schema, PromptOptions()),
        picture=Picture(shown.width, shown.height, shown.tobytes()),
        sampling=sampling or Sampling(seed=number),
    )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        content = _png(int(self.path.strip("/").partition(".")[0]) % NUM)
        self.send_response(200)
        self.send_header("Content-Type", "image/png")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    def handle_error(self, *args: Any) -> None:
        """The backend hangs up at its deadline; that is no error here."""


@contextmanager
def picture_server() -> Iterator[str]:
    """Serve them as /0.png, /1.png ..., and yield the address."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
