"""The Label Studio ML protocol over HTTP: /health /setup /predict /webhook /versions; and /status, /metrics, /livez and
/trial.

Imports no torch: the model lives in the engine's own process, so /health answers at once whatever the model does.
Handlers raise errors of `backend.errors`; `api.middleware` turns them into answers and logs. Everything slow or large
is bounded by `Settings` and `api.bodies.BodyLimits`.

/webhook is only a hint that something changed: what it names is looked up before anything is done. Label Studio sends
it without credentials, and `prelabel connect` gives the webhook none, because every member of an organisation may see a
webhook's headers: with a password set it gets 401, which Label Studio ignores.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response

from backend import logs
from backend.api.access import Access
from backend.api.bodies import BodyLimits, BodyReader, ClientGone
from backend.api.middleware import Edge
from backend.api.parser import BodyParser, length_of
from backend.api.passwords import MAX_HELD
from backend.api.project_model import ProjectModel
from backend.api.requests import NewConfig, PredictBody, SetupBody, read_predict, read_setup, read_trial, read_webhook
from backend.api.responses import RawJSON, StrictJSON, refusal, to_json
from backend.api.status_pages import StatusPages
from backend.api.turns import Turns
from backend.engine.api import Engine
from backend.errors import EngineBusy
from backend.label_studio.tabs import review_title
from backend.predict.config_check import ConfigChecks
from backend.predict.predictor import Images
from backend.predict.trial import MAX_TRIALS, Trial, TrialReply, try_out
from backend.queue.results import TaskResult
from backend.queue.service import DurableCore, Timing
from backend.settings import Settings
from backend.status.check import troubles
from backend.status.gauges import metrics_text
from backend.store.state_file import prepare_data_dir

log = logging.getLogger(__name__)
T = TypeVar("T")

GRACE_SHARE = 0.3
"""Of the time to stop in, for requests under way; the rest is for the work behind them."""
_DELIVERY = {
    "push": "what a reply to /predict cannot hold is pushed to Label Studio when it is done",
    "paused": "Label Studio refuses LABEL_STUDIO_API_KEY; the rest of a reply waits for one that works",
    "reply": "what a reply to /predict cannot hold is returned when Label Studio asks again; set LABEL_STUDIO_URL and "
    "LABEL_STUDIO_API_KEY to have it pushed",
}

KNOWN_WEBHOOKS = frozenset({
    "ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED", "TASKS_CREATED",
    "TASKS_DELETED", "PROJECT_CREATED", "PROJECT_UPDATED", "PROJECT_DELETED", "START_TRAINING",
})  # fmt: skip
PEOPLE_DID = frozenset({
    "ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED",
    "PROJECT_UPDATED",  # as `connect` does when a blind audit begins, of which the status page tells
})  # fmt: skip

COUNTED_WEBHOOKS = frozenset({"TASKS_DELETED", "ANNOTATION_CREATED", "ANNOTATIONS_CREATED"})
"""After which a task may need no answer any more."""


def create_app(
    settings: Settings,
    engine: Engine,
    images: Images,
    body_limits: BodyLimits | None = None,
    timing: Timing | None = None,
    max_held: int = MAX_HELD,
) -> FastAPI:
    """Return the ASGI app; its lifespan starts and closes `engine` and closes `images`. `max_held`: replies to wrong
    passwords that wait at a time.

    Raises SettingsError when the data folder cannot be used, StoreError when its store cannot.
    """
    prepare_data_dir(settings.data_dir)
    core = DurableCore(settings, engine, images, timing)
    backend = Backend(core, body_limits or BodyLimits(settings.max_body_bytes))
    app = FastAPI(title="prelabel", docs_url=None, redoc_url=None, openapi_url=None, lifespan=backend.lifespan)
    routes: dict[str, tuple[list[str], Callable[[Request], Awaitable[Response]]]] = {
        "/livez": (["GET", "HEAD"], backend.livez),
        "/health": (["GET", "HEAD"], backend.health),
        "/metrics": (["GET", "HEAD"], backend.metrics_text),
        "/versions": (["GET", "HEAD"], backend.versions),
        "/setup": (["POST"], backend.setup),
        "/predict": (["POST"], backend.predict),
        "/webhook": (["POST"], backend.webhook),
        "/trial": (["POST"], backend.trial),
        "/status": (["GET", "HEAD"], backend.status.page),
        "/status.json": (["GET", "HEAD"], backend.status.json),
        "/status/retry": (["POST"], backend.status.retry),
        "/status/cancel": (["POST"], backend.status.cancel),
        "/status/delete-older": (["POST"], backend.status.delete_older),
    }
    for path, (methods, handler) in routes.items():
        app.add_route(path, handler, methods=methods)
    app.add_exception_handler(HTTPException, _http_error)
    for secret in (settings.basic_auth_pass, settings.label_studio_api_key):
        logs.hide(secret.get_secret_value())
    app.add_middleware(Edge, metrics=backend.core.metrics, access=Access(settings, max_held), routes=frozenset(routes))
    app.router.redirect_slashes = False
    app.state.backend = backend
    return app


class Backend:
    """The handlers and what they share. One for each app."""

    def __init__(self, core: DurableCore, body_limits: BodyLimits) -> None:
        self.core = core
        self.parser = BodyParser(body_limits.parse_s)
        self.status = StatusPages(core)
        self._reader = BodyReader(body_limits)
        self._checks = ConfigChecks(core.timing.config_check_s)
        self._turns = Turns()
        self._num_predicts = 0
        self._num_trials = 0

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        await self.core.start()
        try:
            yield
        finally:
            await self.core.close(self.core.settings.stop_s * (1 - GRACE_SHARE))
            self.parser.close()
            self._checks.close()

    async def livez(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def health(self, request: Request) -> Response:
        """200 while the API can be asked, also while the model loads: else Label Studio calls us disconnected.

        `problems` are the codes of checks that found something, as /status.json has them.
        """
        status = self.core.engine.status
        up = not status.is_gone
        work = {"waiting": self.core.worker.num_waiting, "delivery": self.core.delivery_state}
        content: dict[str, Any] = {"status": "UP" if up else "DOWN", "model": self._model_state(), "work": work}
        content["language"] = self.core.settings.language
        if found := troubles(self.core.checks):
            content["problems"] = [check.code for check in found]
        return StrictJSON(content, 200 if up else 503)

    async def metrics_text(self, request: Request) -> Response:
        view = await self.status.view_or_none()
        async with self.status.turn():
            text = await asyncio.to_thread(metrics_text, self.core.metrics.registry, self.core.engine.status, view)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def versions(self, request: Request) -> Response:
        return StrictJSON({"versions": self.core.projects.versions(request.query_params.get("project"))})

    async def setup(self, request: Request) -> Response:
        async with self._reader.read(request) as raw:
            body = await self.parser.run(length_of(raw), read_setup, raw)
        return await self._turns.run(body.project, self._set_up(body))

    async def _set_up(self, body: SetupBody) -> Response:
        schema = await self.parser.schema(body.project, body.label_config)
        about_params = await self.core.projects.remember(body.project, body.extra_params)
        about_audit = self.core.audit_warnings(body.project)
        await self.core.named_addresses.remember(body.hostname)
        model = ProjectModel(self.core, body.project, schema, body.label_config)
        unusual = await self._checks.warnings(model.recipe, len(body.label_config))
        about_config = [*schema.warnings, *schema.traps, *unusual, *about_audit]
        logs.tell(log, body.project, about_config)
        log.info("project %s: %s", body.project, _DELIVERY[self.core.delivery_state])
        self.core.was_set_up(body.project, body.label_config)
        reply = {"model_version": model.note_version(), "warnings": [*about_config, *about_params]}
        return StrictJSON({**reply, "model": self._model_state()})

    async def predict(self, request: Request) -> Response:
        self._check_place()
        deadline = asyncio.get_running_loop().time() + self.core.settings.predict_deadline_s
        asked_at = self.core.clock()
        with self.core.metrics.predict_s.time():
            async with self._reader.read(request) as raw:
                body = await self._read_predict(raw)
            del raw
            self._check_place()  # a request has its place once it is whole: half a body keeps nobody out
            self._num_predicts += 1
            try:
                work = self._turns.run(body.project, self._predict(body, deadline, asked_at))
                results = await _while_connected(request, work)
            finally:
                self._num_predicts -= 1
        if len(results) == 1:
            return RawJSON(_results(results, body.interactive))
        return RawJSON(await asyncio.to_thread(_results, results, body.interactive))

    async def _read_predict(self, raw: bytes) -> PredictBody:
        max_tasks = self.core.settings.max_tasks
        try:
            return await self.parser.run(length_of(raw), read_predict, raw, max_tasks)
        except NewConfig as new:
            schema = await self.parser.schema(new.project, new.label_config)
            return await self.parser.run(length_of(raw), read_predict, raw, max_tasks, schema.image_key)

    async def trial(self, request: Request) -> Response:
        """For `prelabel quality --try-rule`: see `backend.predict.trial`. It has its place among the requests."""
        self._check_place()
        async with self._reader.read(request) as raw:
            trial = await self.parser.run(length_of(raw), read_trial, raw)
        self._check_place()
        if self._num_trials >= MAX_TRIALS:
            raise EngineBusy(f"too many trials are under way ({self._num_trials}); try again later")
        self._num_predicts += 1
        self._num_trials += 1
        try:
            reply = await _while_connected(request, self._turns.run(trial.project, self._try_out(trial)))
        finally:
            self._num_predicts -= 1
            self._num_trials -= 1
        return RawJSON(reply.model_dump_json().encode())

    async def _try_out(self, trial: Trial) -> TrialReply:
        schema = await self.parser.schema(trial.project, trial.label_config)
        core = self.core
        return await try_out(core.answerer, core.engine, trial, schema, core.settings.image_tokens)

    def _check_place(self) -> None:
        if self._num_predicts >= self.core.settings.max_requests:
            raise EngineBusy(f"too many requests for predictions are under way ({self._num_predicts}); try again later")

    async def webhook(self, request: Request) -> Response:
        async with self._reader.read(request) as raw:
            body = await self.parser.run(length_of(raw), read_webhook, raw)
        self.core.metrics.webhooks.labels(body.action if body.action in KNOWN_WEBHOOKS else "other").inc()
        log.info("webhook %s of project %s", body.action, body.project)
        if body.action == "TASKS_DELETED":
            self.core.tabs.tasks_deleted(body.project)
        if body.action in COUNTED_WEBHOOKS:
            self.core.gone.changed(body.project.partition(".")[0], deleted=body.action == "TASKS_DELETED")
        if body.action in PEOPLE_DID:
            self.core.people.hint(body.project)
        return StrictJSON({"status": "ok"})

    async def _predict(self, body: PredictBody, deadline: float, asked_at: float) -> list[TaskResult]:
        schema = await self.parser.schema(body.project, body.label_config)
        model = ProjectModel(self.core, body.project, schema, body.label_config)
        if not body.interactive:
            self.core.tabs.asked(body.project, review_title(schema))
        alone = body.interactive or len(body.tasks) == 1
        keep = not body.interactive  # what a person drew is of use to nobody later
        return await model.predict_tasks(body.tasks, deadline, interactive=alone, keep=keep, asked_at=asked_at)

    def _model_state(self) -> dict[str, Any]:
        status = self.core.engine.status
        state: dict[str, Any] = {"state": status.state, "stage": status.stage, "progress": round(status.fraction, 3)}
        if status.state == "loading":
            state |= {"stage_left_s": status.left_s, "bytes_per_s": round(status.bytes_per_s)}
            if status.stalled_s:
                state["stalled_s"] = round(status.stalled_s)
        if status.num_restarts:
            state["restarts"] = status.num_restarts
        if status.ended:
            state["ended"] = logs.redact(status.ended)
        if status.message:
            state["message"] = logs.redact(status.message)
        if status.why:
            state["why"] = [one.code for one in status.why]
        if name := self.core.model_name:
            state["name"] = name
        if status.ready:
            state["quantisation"] = status.ready.quantisation
        return state


def _results(results: list[TaskResult], interactive: bool) -> bytes:
    """The body of the reply, an entry at a time: one call for a hundred thousand would hold the GIL for a second."""
    return b'{"results":[' + b",".join(to_json(_entry(result, interactive)) for result in results) + b"]}"


def _entry(result: TaskResult, interactive: bool) -> dict[str, Any] | list[Any]:
    """One item of `results`. An empty list stores nothing and leaves the task eligible; an empty prediction would hide
    it from every later request. A person's own request is shown, not stored, and must get an object."""
    if result.prediction is not None:
        return result.prediction
    return {"result": []} if interactive else []


async def _while_connected(request: Request, work: Awaitable[T]) -> T:
    """Await `work`, cancel it when the client closes the connection. Raises ClientGone then."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "refused")
    message = {404: "There is no such page here.", 405: "This address does not take that method."}
    headers = dict(error.headers or {})
    return refusal(error.status_code, code, message.get(error.status_code, "The request is refused."), headers)
