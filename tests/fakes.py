"""Fakes of the seams: an engine that answers what it is told, and pictures that need no network."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace

from backend.engine.api import EngineStatus
from backend.engine.messages import Finished, GenerateRequest, Picture, Ready
from backend.errors import EngineDead, EngineNotReady, ImageError
from backend.images import FetchedImage
from backend.label_studio.address import LabelStudioAddresses
from label_config.answer import FieldValue, render_answer

READY = Ready("garments", "nf4", "cpu", 0.1, 0.2)
Answers = Callable[[GenerateRequest], Mapping[str, FieldValue]]


class FakeEngine:
    """Answers with `answers(request)` after `delay_s`; `failure`, when set, is raised instead."""

    def __init__(self, answers: Answers | Mapping[str, FieldValue], *, ready: bool = True, delay_s: float = 0) -> None:
        self.answers: Answers = answers if callable(answers) else lambda request: answers
        self.status = EngineStatus("ready", "ready", 1.0, READY) if ready else EngineStatus("loading", "weights", 0.25)
        self.delay_s = delay_s
        self.failure: Exception | None = None
        self.requests: list[GenerateRequest] = []
        self.num_cancelled = 0

    async def start(self) -> None: ...

    async def wait_ready(self, timeout_s: float) -> Ready:
        deadline = asyncio.get_running_loop().time() + timeout_s
        while self.status.ready is None:
            if self.status.state in ("failed", "stopped"):
                raise EngineDead("the model could not be loaded")
            if asyncio.get_running_loop().time() > deadline:
                raise EngineNotReady("the model is still loading")
            await asyncio.sleep(0.01)
        return self.status.ready

    async def generate(self, request: GenerateRequest) -> Finished:
        self.requests.append(request)
        try:
            await asyncio.sleep(self.delay_s)
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        if self.failure:
            raise self.failure
        pieces = tuple(bytes([b]) for b in render_answer(request.schema, self.answers(request)).encode())
        return Finished(0, pieces, tuple(0.999 for _ in pieces), "stop", 100, 64)

    async def close(self) -> None:
        self.status = replace(self.status, state="stopped")


class FakeImages:
    """Any address is a grey 4x4 picture whose bytes are its address; one with "missing" in it is not there."""

    def __init__(self) -> None:
        self.label_studio = LabelStudioAddresses()
        self.fetched: list[str] = []
        self.asked_by: list[str] = []
        self.waited_for: list[str] = []
        """Those of them that a person waits for."""

    async def fetch(
        self, url: str, *, task_id: int | None, timeout_s: float, interactive: bool = False, project: str = ""
    ) -> FetchedImage:
        await asyncio.sleep(0)
        self.fetched.append(url)
        self.asked_by.append(project)
        if interactive:
            self.waited_for.append(url)
        if "missing" in url:
            raise ImageError("not_found", "The picture is not there (HTTP 404).")
        return FetchedImage(Picture(4, 4, b"\x80" * 48), sha256=hashlib.sha256(url.encode()).hexdigest())

    async def aclose(self) -> None: ...
