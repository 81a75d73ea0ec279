"""`RayEngine` before replicas that answer, refuse, die, or say nothing. No Ray runs."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
from ray.serve._private.common import DeploymentID
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RequestCancelledError

from backend.engine.api import EngineStatus
from backend.engine.messages import Finished, GenerateRequest, Picture
from backend.errors import Cancelled, EngineBusy, EngineDead, EngineNotReady, GenerationFailed, PrelabelError
from backend.ray.engine import RayEngine, RayLimits
from backend.ray.wire import Refusal, Report
from tests.backend.bulk.given import SCHEMA
from tests.fakes import READY
from tests.limits import WAIT_S, eventually

REQUEST = GenerateRequest(SCHEMA, "what is it?", Picture(1, 1, b"123"))
FINISHED = Finished(0, (b"{}",), (1.0,), "stop", 10, 4)
LIMITS = RayLimits(request_s=WAIT_S, pause_s=0.001, poll_s=0.01)
IS_READY = EngineStatus("ready", ready=READY)
FAILED = EngineStatus("failed", message="no card")


class Response:
    def __init__(self, reply: Any) -> None:
        self._reply = reply
        self.is_cancelled = False

    def __await__(self) -> Any:
        return self._wait().__await__()

    async def _wait(self) -> Any:
        await (asyncio.Event().wait() if self._reply is None else asyncio.sleep(0))
        if isinstance(self._reply, BaseException):
            raise self._reply
        return self._reply

    def cancel(self) -> None:
        self.is_cancelled = True


class Replicas:
    """As a deployment's handle. `replies`: one after the other, the last one for ever; None: silence."""

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.responses: list[Response] = []

    @property
    def generate(self) -> Replicas:
        return self

    def remote(self, request: GenerateRequest) -> Response:
        assert pickle.loads(pickle.dumps(request)) == REQUEST
        self.responses.append(Response(self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]))
        return self.responses[-1]


def run(
    replicas: Replicas,
    test: Callable[[RayEngine], Awaitable[None]],
    status: EngineStatus | None = IS_READY,
    limits: RayLimits = LIMITS,
) -> None:
    async def go() -> None:
        engine = RayEngine(replicas, 4, limits)
        if status:
            engine.note(Report("a", "here", status))
        await engine.start()
        await test(engine)
        await engine.close()

    asyncio.run(go())


def refusal(error: PrelabelError, status: EngineStatus = IS_READY) -> Refusal:
    refused = Refusal.of(error, status)
    assert pickle.loads(pickle.dumps(refused)) == refused
    return refused


def test_an_answer_comes_back(tmp_path: Any) -> None:
    async def test(engine: RayEngine) -> None:
        assert await engine.generate(REQUEST) == FINISHED
        assert engine.status.num_queued == 0

    run(Replicas(FINISHED), test)


@pytest.mark.parametrize(
    "error",
    [
        EngineDead("the engine died 2 times while it worked on this request"),
        GenerationFailed("too_long: 9000 tokens"),
        Cancelled("cancelled while it ran"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_the_request_arrives_as_itself_and_is_not_tried_again(error: PrelabelError) -> None:
    replicas = Replicas(refusal(error))

    async def test(engine: RayEngine) -> None:
        with pytest.raises(type(error)) as raised:
            await engine.generate(REQUEST)
        assert type(raised.value) is type(error)
        assert str(raised.value) == str(error)

    run(replicas, test)
    assert len(replicas.responses) == 1


@pytest.mark.parametrize(
    "first",
    [
        refusal(EngineBusy("512 requests are waiting already", retry_after_s=7.0)),
        refusal(EngineNotReady("the model is not ready yet", retry_after_s=30.0)),
        refusal(EngineDead("the engine has stopped"), FAILED),
        RequestCancelledError("by Ray Serve"),
        ActorDiedError(),
        ActorUnavailableError("gone", b"0" * 16),
    ],
    ids=["busy", "restarting", "its engine is gone", "taken down", "killed", "unreachable"],
)
def test_the_trouble_of_one_replica_is_another_ones_work(first: Any) -> None:
    replicas = Replicas(first, FINISHED)

    async def test(engine: RayEngine) -> None:
        assert await engine.generate(REQUEST) == FINISHED

    run(replicas, test)
    assert len(replicas.responses) == 2


def test_a_request_that_two_replicas_died_of_fails_by_name() -> None:
    replicas = Replicas(ActorDiedError())

    async def test(engine: RayEngine) -> None:
        with pytest.raises(EngineDead, match="2 engine replicas died"):
            await engine.generate(REQUEST)

    run(replicas, test)
    assert len(replicas.responses) == 2


def test_when_every_replica_stays_busy_that_is_said_in_the_end() -> None:
    replicas = Replicas(refusal(EngineBusy("512 requests are waiting already", retry_after_s=7.0)))

    async def test(engine: RayEngine) -> None:
        with pytest.raises(EngineBusy) as raised:
            await engine.generate(REQUEST)
        assert raised.value.retry_after_s == 7.0

    run(replicas, test)
    assert len(replicas.responses) == LIMITS.max_elsewhere + 1


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BackPressureError(5, 4), EngineBusy),
        (DeploymentUnavailableError(DeploymentID(name="engine", app_name="prelabel")), EngineDead),
        (RayTaskError("generate", "Traceback ... ZeroDivisionError", ZeroDivisionError()), GenerationFailed),
    ],
    ids=["its queue is full", "never started", "a fault of ours"],
)
def test_errors_of_ray_become_ours(error: Exception, kind: type[PrelabelError]) -> None:
    async def test(engine: RayEngine) -> None:
        with pytest.raises(kind) as raised:
            await engine.generate(REQUEST)
        assert "Traceback" not in str(raised.value)

    run(Replicas(error), test)


def test_cancelling_the_request_cancels_it_in_its_replica() -> None:
    replicas = Replicas(None)

    async def test(engine: RayEngine) -> None:
        asking = asyncio.create_task(engine.generate(REQUEST))
        await eventually(lambda: replicas.responses)
        assert engine.status.num_queued == 1
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert engine.status.num_queued == 0

    run(replicas, test)
    assert [response.is_cancelled for response in replicas.responses] == [True]


def test_a_replica_that_never_answers_is_not_waited_for_without_end() -> None:
    replicas = Replicas(None)

    async def test(engine: RayEngine) -> None:
        with pytest.raises(GenerationFailed, match="no answer within"):
            await engine.generate(REQUEST)

    run(replicas, test, limits=RayLimits(cpu_request_s=0.1))
    assert replicas.responses[0].is_cancelled


def test_more_requests_than_fit_are_refused() -> None:
    replicas = Replicas(None)

    async def test(engine: RayEngine) -> None:
        asking = [asyncio.create_task(engine.generate(REQUEST)) for _ in range(4)]
        await eventually(lambda: len(replicas.responses) == 4)
        with pytest.raises(EngineBusy, match=r"requests are waiting already \(4\)"):
            await engine.generate(REQUEST)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    run(replicas, test)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(None, EngineNotReady), (EngineStatus("loading"), EngineNotReady), (FAILED, EngineDead)],
    ids=["nobody yet", "loading", "failed"],
)
def test_without_a_ready_replica_nothing_is_asked(status: EngineStatus | None, kind: type[PrelabelError]) -> None:
    replicas = Replicas(FINISHED)

    async def test(engine: RayEngine) -> None:
        with pytest.raises(kind):
            await engine.generate(REQUEST)
        with pytest.raises(kind):
            await engine.wait_ready(0.05)

    run(replicas, test, status)
    assert not replicas.responses


def test_waiting_ends_when_the_first_replica_is_ready() -> None:
    async def test(engine: RayEngine) -> None:
        waiting = asyncio.create_task(engine.wait_ready(WAIT_S))
        await asyncio.sleep(0)
        assert not waiting.done()
        engine.note(Report("a", "here", IS_READY))
        assert await waiting == READY

    run(Replicas(FINISHED), test, None)


def test_a_closed_engine_is_stopped() -> None:
    async def test(engine: RayEngine) -> None:
        await engine.close()
        assert engine.status.state == "stopped"
        with pytest.raises(EngineDead):
            await engine.generate(REQUEST)

    run(Replicas(FINISHED), test)
