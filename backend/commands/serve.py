"""`prelabel serve`: the HTTP server and the engine beside it, until SIGTERM or Ctrl-C.

The first signal stops accepting, lets running requests and work finish, answers those requests with what is done,
queues the rest again and ends the engine: PRELABEL_STOP_S in all, exit code 0. A second one ends at once, and so does
the end of that time plus LATE_S, whatever hangs. Raises SettingsError and StoreError before anything is started.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial

import uvicorn

from backend.api.app import GRACE_SHARE, Backend, create_app
from backend.api.connections import (
    ListeningServer,
    ServerConfig,
    limits_for,
    log_accept_errors_seldom,
    raise_file_limit,
)
from backend.api.passwords import short_password
from backend.engine.api import Engine, EngineStatus
from backend.errors import PrelabelError, SettingsError
from backend.logs import configure_logging
from backend.pages.words import Words
from backend.predict.build import build_engine, build_images
from backend.predict.predictor import Images
from backend.settings import Settings
from backend.status.disk_limit import within_limit
from backend.status.machine_checks import listen
from backend.status.serve_checks import refuse_hopeless
from backend.status.starting import said_of, tell_lines

log = logging.getLogger(__name__)

LATE_S = 2.0
EXIT_FAILED = 1


def serve(
    settings: Settings,
    make_engine: Callable[[Settings], Engine] = build_engine,
    make_images: Callable[[Settings], Images] = build_images,
) -> int:
    """Run until told to stop; return the exit code."""
    _need_password_on_public_address(settings)
    configure_logging(settings.log_level)
    if short := short_password(settings):
        log.warning("%s", short)
    within_limit(lambda: refuse_hopeless(settings))
    return asyncio.run(_serve(settings, make_engine(settings), make_images))


async def _serve(settings: Settings, engine: Engine, make_images: Callable[[Settings], Images]) -> int:
    listener = _listen(settings.host, settings.port)
    limits = limits_for(raise_file_limit())
    try:
        app = create_app(settings, engine, make_images(settings), max_held=limits.max_held)
    except PrelabelError:
        listener.close()
        raise
    log.info("settings: %r", settings)  # not before a refusal, which is one line
    address = f"http://{_shown_host(settings.host)}:{listener.getsockname()[1]}"
    # What is here now stays: looking through it again and again would stop the event loop for 0.1 s each time.
    gc.collect()
    gc.freeze()
    backend: Backend = app.state.backend
    log_accept_errors_seldom(asyncio.get_running_loop())
    grace_s = max(1, int(settings.stop_s * GRACE_SHARE))
    server = _Server(ServerConfig(app, limits, grace_s, settings.trusted_proxies), backend)
    backend.parser.warm_up()
    print(f"Listening on {address} while the model loads.", flush=True)
    announcer = asyncio.create_task(tell_lines(engine, partial(_announce, address)))
    try:
        await server.serve([listener])
    finally:
        announcer.cancel()
        listener.close()
    if server.force_exit:
        _end_at_once()
    return 0 if server.started else EXIT_FAILED


def _end_at_once() -> None:
    """Skip every wait, also Python's own for threads and children; those end with the pipes this process holds."""
    logging.shutdown()
    os._exit(0)


class _Server(ListeningServer):
    """uvicorn raises the signal again after shutting down, which would make an orderly end look like a kill."""

    def __init__(self, config: uvicorn.Config, backend: Backend) -> None:
        super().__init__(config)
        self._backend = backend

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Requests that would be cut at the end of the grace get what is done a moment before."""
        grace_s = self.config.timeout_graceful_shutdown or 0
        asyncio.get_running_loop().call_later(max(grace_s / 2, grace_s - 1.0), self._backend.core.worker.answer_now)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def _stop(self) -> None:
        if self.should_exit:
            self.force_exit = True
        else:
            limit_s = self._backend.core.settings.stop_s + LATE_S
            watchdog = threading.Timer(limit_s, self._end_late)  # a thread: what hangs may be the loop, or the way out
            watchdog.daemon = True
            watchdog.start()
        self.should_exit = True

    def _end_late(self) -> None:
        log.warning("something hangs at the end; it is left, and what was under way is taken up at the next start")
        _end_at_once()


def _announce(address: str, status: EngineStatus) -> None:
    loaded = "" if status.ready is None else f"Model loaded successfully! API on {address}\n  "
    print(loaded + said_of(status), flush=True)


def _need_password_on_public_address(settings: Settings) -> None:
    """Only here: a command that does not listen needs no password, whatever PRELABEL_HOST says."""
    if settings.allow_no_auth or _is_loopback(settings.host):
        return
    reached = f"PRELABEL_HOST={settings.host} can be reached from other machines"
    if not settings.auth_required:
        raise SettingsError(
            f"{reached}, and there is no password. Set BASIC_AUTH_PASS and enter it in Label Studio's model settings, "
            "or listen on 127.0.0.1. Inside a private container network PRELABEL_ALLOW_NO_AUTH=true turns this check "
            "off."
        )
    if short := short_password(settings):
        raise SettingsError(f"{reached}. {short}")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    """Open the socket ourselves, to know the port before the first line and to refuse in one clear line."""
    try:
        listener = listen(host, port)
    except OSError as error:
        values = {"address": f"{host}:{port}", "reason": error.strerror or str(error)}
        raise SettingsError(Words("en").check("port_taken", values)) from None
    listener.setblocking(False)
    return listener


def _shown_host(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104 - only shown
        return "localhost"
    return f"[{host}]" if ":" in host else host
