"""Canary values through every route at the loudest log level; then every output is searched for them."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend import logs
from backend.errors import ImageError
from backend.images import FetchedImage
from tests.backend.serving import Server, predict_body, serving, setup_body, task
from tests.fakes import FakeImages

CANARY = "c4n4ry"
PASSWORD = f"{CANARY}-password"


class TalkativeImages(FakeImages):
    """Fails with a text that repeats the address, as a careless library would."""

    async def fetch(
        self, url: str, *, task_id: int | None, timeout_s: float, interactive: bool = False, project: str = ""
    ) -> FetchedImage:
        logging.getLogger("httpx").debug("GET %s", url)
        raise ImageError("unreachable", f"cannot reach {url}")


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.configure_logging("DEBUG", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def test_no_secret_reaches_a_log_an_answer_a_metric_or_the_disk(tmp_path: Path, output: io.StringIO) -> None:
    with serving(tmp_path, images=TalkativeImages(), basic_auth_pass=PASSWORD) as server:
        answers = _visit_every_route(server)
        answers.append(server.client.get("/metrics", auth=("prelabel", PASSWORD)).text)
    on_disk = "".join(path.read_bytes().decode(errors="replace") for path in tmp_path.rglob("*") if path.is_file())
    assert "task 1 has no prediction" in output.getvalue()
    for place in (output.getvalue(), *answers, on_disk):
        assert CANARY not in place
        assert base64.b64encode(f"prelabel:{PASSWORD}".encode()).decode() not in place


def _visit_every_route(server: Server) -> list[str]:
    client, auth = server.client, ("prelabel", PASSWORD)
    setup = {**setup_body(), "access_token": f"{CANARY}-token"}
    images = [
        f"https://bucket.example/1.jpg?X-Amz-Signature={CANARY}", f"data:image/png;base64,{CANARY}",
        f"https://user:{CANARY}@shop.example/1.jpg", f"s3://bucket/1.jpg?v={CANARY}",
    ]  # fmt: skip
    tasks = [task(number, url) for number, url in enumerate(images, 1)]
    predict = predict_body(*tasks, login=f"{CANARY}-login", password=f"{CANARY}-password")
    replies = [
        client.get("/health", auth=("prelabel", f"{CANARY}-wrong")),
        client.get("/health", headers={"authorization": f"Bearer {CANARY}-bearer"}),
        client.get(f"/health?access_token={CANARY}", auth=auth),
        client.get(f"/nowhere?api_key={CANARY}", auth=auth),
        client.get(f"/versions?project={CANARY}", auth=auth),
        client.post("/setup", json=setup, auth=auth),
        client.post("/setup", json={**setup, "schema": None}, auth=auth),
        client.post("/setup", content=f'{{"access_token": "{CANARY}", NaN', auth=auth),
        client.post("/predict", json=predict, auth=auth),
        client.post("/predict", json={**predict, "tasks": [{"id": 1, "data": CANARY}]}, auth=auth),
        client.post("/webhook", json={"action": "X", "project": {"id": 1, "token": CANARY}}, auth=auth),
    ]
    assert [reply.status_code for reply in replies].count(500) == 0
    return [reply.text + str(reply.headers) for reply in replies]
