"""`EngineReplica`: one engine of a Ray Serve deployment, on the card that Ray gives it.

Holds an ordinary EngineClient with its engine process. It counts as started once the model is loaded, so that no
request comes earlier; until then, and from then on, it reports its state to the API once a second. When the engine is
gone for good the health check fails, and Ray Serve puts another replica in its place. Imports no torch.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
from typing import Any

from backend.engine.api import Engine
from backend.engine.client import EngineClient
from backend.engine.messages import GenerateRequest
from backend.engine.options import EngineOptions
from backend.errors import Cancelled, EngineBusy, EngineDead, GenerationFailed, one_line
from backend.logs import configure_logging
from backend.ray.wire import Refusal, Reply, Report

log = logging.getLogger(__name__)

API = "api"
"""The name of the API's deployment."""
REPORT_EVERY_S = 1.0
REPORT_S = 5.0
CLOSE_S = 15.0


class EngineReplica:
    """`await` the constructor, as Ray Serve does. Raises EngineDead when the model cannot be loaded."""

    async def __init__(self, options: EngineOptions) -> None:  # type: ignore[misc]
        configure_logging(options.log_level)
        from ray import serve

        context = serve.get_replica_context()
        self._name = context.replica_tag
        self._place = f"{socket.gethostname()}, process {os.getpid()}"
        self._api: Any = serve.get_deployment_handle(API, app_name=context.app_name)
        self._engine: Engine = EngineClient(options)
        await self._engine.start()
        self._reporter = asyncio.create_task(self._report_now_and_then())
        try:
            await self._engine.wait_ready(math.inf)
        except BaseException:
            await self._report()
            await self.close()
            raise

    async def generate(self, request: GenerateRequest) -> Reply:
        """Cancelling it cancels the request in the engine. Raises nothing of ours: see `Refusal`."""
        try:
            return await self._engine.generate(request)
        except (EngineBusy, EngineDead, GenerationFailed, Cancelled) as error:
            return Refusal.of(error, self._engine.status)

    def check_health(self) -> None:
        """Ray Serve asks every few seconds. Raises EngineDead when there will be no engine here any more."""
        status = self._engine.status
        if status.is_gone:
            raise EngineDead(f"the engine has stopped: {status.message or status.state}")

    async def close(self) -> None:
        """Safe to call twice."""
        self._reporter.cancel()
        async with asyncio.timeout(CLOSE_S):
            await self._engine.close()
            await self._report()

    async def __del__(self) -> None:
        """Ray Serve awaits it when it takes the replica down."""
        if hasattr(self, "_reporter"):
            await self.close()

    async def _report_now_and_then(self) -> None:
        while True:
            await self._report()
            await asyncio.sleep(REPORT_EVERY_S)

    async def _report(self) -> None:
        try:
            async with asyncio.timeout(REPORT_S):
                await self._api.report.remote(Report(self._name, self._place, self._engine.status))
        except Exception as error:  # a job's border: the API may be being replaced, and must not take us along
            log.debug("a report was not heard: %s", one_line(error))
