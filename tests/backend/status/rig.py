"""A real store with work in every state, and the status pages served over real HTTP."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from backend.api.access import Access
from backend.api.middleware import Edge
from backend.api.status_pages import StatusPages
from backend.delivery.loop import DeliveryStatus
from backend.engine.api import EngineStatus
from backend.engine.messages import Ready, Stats
from backend.errors import StoreBusy
from backend.metrics import Metrics
from backend.settings import Settings, load_settings
from backend.store import NewWork, RecipeRecord, Store, StoredAnswer, Work
from tests.backend.store.given import QUICK
from tests.fakes import FakeEngine
from tests.limits import WAIT_S, until

NOW = 1_800_000_000.0
HOSTILE = "<img src=x onerror=alert(1)>"
RECIPE = RecipeRecord("recipe", "12.1700000000", "<View/>", "{}")
READY = EngineStatus(
    "ready", "ready", 1.0, Ready("Qwen3-VL-30B-A3B-Instruct", "nf4", "cuda:0", 20.9, 180.0),
    stats=Stats(prefill_s=1_500.0, decode_s=2_100.0),
)  # fmt: skip


class BusyStore:
    def summary(self) -> NoReturn:
        raise StoreBusy("Another program holds the file.")


class Clock:
    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def queued(store: Store, project: str, task_ids: Sequence[int], at: float = NOW - 600) -> list[Work]:
    store.save_recipe(RECIPE, at)
    items = [NewWork(project, task_id, "v1", RECIPE.fingerprint, "https://pictures/1") for task_id in task_ids]
    works = store.accept(items, interactive=False, reply_until=0.0, now=at)
    store.reply_ended([work.id for work in works], at)
    return works


def finished(store: Store, works: Sequence[Work], at: float = NOW - 30, *, needs_review: int = 0) -> None:
    for index, work in enumerate(works):
        answer = StoredAnswer(f"picture-{work.id}", '{"result": []}')
        store.finish(work.id, answer, 0.9, index < needs_review, at)


@dataclass
class Site:
    """The core that the pages ask, and the server that shows them. `cancelled` are the projects whose waiting requests
    were told, `num_woken` is how often the worker was.

    Under /other it shows what another version might.
    """

    store: Any
    settings: Settings
    engine: FakeEngine
    clock: Clock = field(default_factory=Clock)
    delivery: Any = field(default_factory=lambda: SimpleNamespace(status=DeliveryStatus(False), wake=lambda: None))
    upkeep: Any = field(default_factory=lambda: SimpleNamespace(known={}))
    checks: Any = ()
    tabs: Any = field(default_factory=lambda: SimpleNamespace(left=lambda told: {}))
    gone: Any = field(default_factory=lambda: SimpleNamespace(look=lambda projects: None))
    people: Any = field(default_factory=lambda: SimpleNamespace(known={}))
    titles: dict[str, str] = field(default_factory=dict)
    num_woken: int = 0
    cancelled: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    url: str = ""
    client: Any = None

    @property
    def worker(self) -> Any:
        return SimpleNamespace(cancelled=self.cancelled.append, wake=self._wake)

    def _wake(self) -> None:
        self.num_woken += 1

    def retry(self, project: str, now: float) -> int:
        return int(self.store.retry_failed(project, now))

    def delete_older(self, project: str, now: float) -> int:
        self.deleted.append(project)
        return 1

    def page(self, language: str = "zh") -> str:
        reply = self.client.get("/status", params={"lang": language})
        assert reply.status_code == 200, reply.text
        return reply.text

    def json(self) -> Any:
        return self.client.get("/status.json").json()


@contextmanager
def status_site(folder: Path, *, password: str = "", **settings: Any) -> Iterator[Site]:
    engine = FakeEngine({})
    engine.status = READY
    with Store.open(folder / "prelabel.db", NOW - 1000, QUICK) as store:
        site = Site(store, load_settings({"data_dir": folder, "basic_auth_pass": password, **settings}), engine)
        pages = StatusPages(site)
        app = Starlette(
            routes=[
                Route("/status", pages.page, methods=["GET", "HEAD"]),
                Route("/status.json", pages.json, methods=["GET", "HEAD"]),
                Route("/status/retry", pages.retry, methods=["POST"]),
                Route("/status/cancel", pages.cancel, methods=["POST"]),
                Route("/status/delete-older", pages.delete_older, methods=["POST"]),
                Route("/other/status.json", lambda request: JSONResponse({"model": 1})),
            ]
        )
        app.add_middleware(Edge, metrics=Metrics(), access=Access(site.settings), routes=frozenset({"/status"}))
        with _serving(app) as url, httpx.Client(base_url=url, trust_env=False, timeout=WAIT_S) as client:
            site.url, site.client = url, client
            yield site


@contextmanager
def _serving(app: Starlette) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, http="h11", ws="none", log_config=None, access_log=False))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            until(lambda: server.started, "the start of the server")
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(WAIT_S)
    assert not thread.is_alive(), "the server did not stop"
