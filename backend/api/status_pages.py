"""GET /status and /status.json, POST /status/retry, /status/cancel and /status/delete-older.

The store is asked in a thread. Raises what the store raises, EngineBusy where many ask, and Forbidden for a button that
was not pressed on our own page; `api.middleware` answers those.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Literal
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from backend.api.bodies import BodyLimits, BodyReader
from backend.api.forms import MAX_FORM_BYTES, FormGuard, check_origin, read_form
from backend.api.responses import StrictJSON
from backend.errors import EngineBusy, StoreError
from backend.pages.words import Language
from backend.queue.service import DurableCore
from backend.status.make_view import RATE_WINDOW_S, make_view
from backend.status.page import Did, render, render_live, security_headers
from backend.status.view import StatusView

log = logging.getLogger(__name__)

Action = Literal["retry", "cancel", "delete-older"]

MAX_WAITING = 32
"""Pages and figures that are asked for at a time. Whoever waits keeps a connection, and there is an end to those."""
MAX_PROJECTS = 50
MAX_FAILED_TASKS = 30
"""Failed tasks of a project that are named; all are counted."""


class StatusPages:
    """The handlers."""

    def __init__(self, core: DurableCore) -> None:
        self._core = core
        self._turn = asyncio.Lock()
        self._num_waiting = 0
        self._guard = FormGuard()
        self._reader = BodyReader(BodyLimits(MAX_FORM_BYTES))

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Pages and figures are made in a thread, one after the other: many at once would leave the loop no time.
        Raises EngineBusy where MAX_WAITING are."""
        if self._num_waiting >= MAX_WAITING:
            raise EngineBusy(f"{self._num_waiting} others wait for the status; ask again in a moment")
        self._num_waiting += 1
        try:
            async with self._turn:
                yield
        finally:
            self._num_waiting -= 1

    async def page(self, request: Request) -> Response:
        language = chosen_language(request.query_params.get("lang"), request.headers.get("accept-language", ""))
        nonce = secrets.token_urlsafe(16)
        view = await self.view()
        async with self.turn():
            if request.query_params.get("part") == "live":
                text = await asyncio.to_thread(render_live, view, language, sign=self._guard.sign)
            else:
                did = self._done(request.query_params)
                text = await asyncio.to_thread(render, view, language, nonce=nonce, sign=self._guard.sign, did=did)
        return HTMLResponse(text, headers={**security_headers(nonce), "Vary": "Accept-Language"})

    async def json(self, request: Request) -> Response:
        return StrictJSON(asdict(await self.view()))

    async def retry(self, request: Request) -> Response:
        return await self._press(request, "retry", self._core.retry)

    async def cancel(self, request: Request) -> Response:
        return await self._press(request, "cancel", self._core.store.cancel_project)

    async def delete_older(self, request: Request) -> Response:
        return await self._press(request, "delete-older", self._core.delete_older)

    async def view(self) -> StatusView:
        """How it is going now. Raises StoreError."""
        async with self.turn():
            return await asyncio.to_thread(self._look)

    async def view_or_none(self) -> StatusView | None:
        """As `view`, for /metrics, which has other things to tell when the store cannot be read."""
        try:
            return await self.view()
        except StoreError as error:
            log.warning("the status cannot be told: %s", error)
            return None

    def _look(self) -> StatusView:
        core, now = self._core, self._core.clock()
        summaries = core.store.summary()
        core.gone.look([s.project for s in summaries[:MAX_PROJECTS] if s.num_tasks or s.gone])
        failures = {
            summary.project: core.store.failures(summary.project, MAX_FAILED_TASKS)
            for summary in summaries[:MAX_PROJECTS]
            if summary.failures
        }
        return make_view(
            core.engine.status,
            summaries,
            failures,
            core.store.rate(now, RATE_WINDOW_S),
            core.delivery.status,
            core.settings,
            now,
            set_aside=str(core.store.set_aside or ""),
            titles=core.titles,
            upkeep=dict(core.upkeep.known),
            checks=core.checks,
            review_left=core.tabs.left(
                {s.project: s.num_review_told for s in summaries[:MAX_PROJECTS] if s.num_needs_review}
            ),
            people=dict(core.people.known),
            max_projects=MAX_PROJECTS,
        )

    async def _press(self, request: Request, action: Action, act: Callable[[str, float], int]) -> Response:
        check_origin(request.headers)
        async with self._reader.read(request) as raw:
            form = read_form(request.headers.get("content-type", ""), raw)
        project = form["project"]
        self._guard.check(action, project, form["token"])
        num = await asyncio.to_thread(act, project, self._core.clock())
        log.info("project %s: %s of %d, from the status page", project, action, num)
        if action == "cancel":
            self._core.worker.cancelled(project)
        self._core.worker.wake()
        self._core.delivery.wake()
        language = chosen_language(form["lang"], request.headers.get("accept-language", ""))
        done = {"did": action, "project": project, "num": str(num)}
        token = self._guard.sign(f"did {action} {num}", project)  # a link of others' says nothing on our page
        address = "../status?" + urlencode({"lang": language, **done, "token": token}, errors="replace")
        return RedirectResponse(address, status_code=303)

    def _done(self, query: Mapping[str, str]) -> Did | None:
        """What `_press` has just done and led here to say."""
        action, project, num = (query.get(name, "") for name in ("did", "project", "num"))
        is_ours = self._guard.is_signed(f"did {action} {num}", project, query.get("token", ""))
        return Did(action, project, int(num)) if action and is_ours else None


def chosen_language(asked: str | None, accept: str) -> Language:
    """What `?lang=` says, else English for a browser that prefers it to Chinese, else Chinese."""
    if asked in ("zh", "en"):
        return "en" if asked == "en" else "zh"
    wishes: list[tuple[float, str]] = []
    for item in accept[:1000].split(","):
        name, _, quality = item.partition(";")
        try:
            weight = float(quality.strip().removeprefix("q=") or 1)
        except ValueError:
            weight = 0.0
        wishes.append((weight, name.strip().lower()[:2]))
    best = max((weight for weight, name in wishes if name == "zh"), default=0.0)
    return "en" if any(name == "en" and weight > best for weight, name in wishes) else "zh"
