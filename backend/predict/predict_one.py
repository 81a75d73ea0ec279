"""One picture to an answer, or to a failure with a reason: fetch it, wait for the engine, ask, name what went wrong.

Written once, for the queue and for bulk runs; they differ in how they fetch and how they wait.
A failure belongs to its picture and never touches its neighbours. Raised is only what concerns every picture:
EngineNotReady where `wait_ready` gives up, EngineDead when there will be no engine any more, StoreError.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from backend.errors import Cancelled, EngineBusy, EngineDead, EngineNotReady, GenerationFailed, ImageError, StoreError
from backend.images.decode import FetchedImage
from backend.predict.answered import Answered
from backend.predict.predictor import Answerer
from backend.predict.recipe import Recipe
from backend.reasons import Reason
from label_config.errors import MalformedAnswer

log = logging.getLogger(__name__)

BUSY_WAIT_S = 0.2
REASONS: dict[type[Exception], Reason] = {
    EngineBusy: "engine_busy",
    EngineNotReady: "engine_not_ready",
    EngineDead: "engine_dead",
    Cancelled: "cancelled",
    MalformedAnswer: "malformed_answer",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """`message` is a sentence, safe to show but for the secrets an address may hold."""

    reason: Reason
    message: str


INTERNAL = Failure("internal", "a fault in prelabel; its log says more")
"""For a job's border: this picture fails, its neighbours go on. The log has the exception."""


async def predict_one(
    answerer: Answerer,
    recipe: Recipe,
    fetch: Callable[[], Awaitable[FetchedImage]],
    wait_ready: Callable[[], Awaitable[object]],
    *,
    name: str,
    interactive: bool = False,
    project: str = "",
    busy_s: float = BUSY_WAIT_S,
) -> Answered | Failure:
    """`wait_ready` returns when the engine can be asked; no picture is fetched before. `name` is for the log.
    `project`: whose turn it takes at the engine.

    Cancelled, it cancels what it waits for.
    """
    try:
        await wait_ready()
        fetched = await fetch()
        if fetched.remarks:
            log.warning("%s is decoded, but: %s", name, fetched.remarks)
        while True:
            try:
                return await answerer.answer(recipe, fetched, interactive=interactive, project=project)
            except EngineNotReady:  # it is being started again
                await wait_ready()
            except EngineBusy:
                await asyncio.sleep(busy_s)
    except (ImageError, GenerationFailed) as error:
        return Failure(error.reason, str(error))
    except (EngineNotReady, StoreError):
        raise
    except EngineDead as error:
        if answerer.engine_status.is_gone:
            raise  # it died, but not of this picture alone
        return Failure(REASONS[EngineDead], str(error))
    except tuple(REASONS) as error:
        return Failure(REASONS[type(error)], str(error))
    except Exception:
        log.exception("%s failed", name)
        return INTERNAL
