"""The one fetcher for every source of picture bytes: find, download, decode.

Tasks of a project that ask for the same address at the same time share one download; what a person waits for has its
own, because the other may be far back in the queue. Projects take turns at the network and at the threads that decode.
Keeps nothing afterwards: the store knows pictures by their hash. Belongs to one event loop; downloading is
asynchronous, files and waiting for the processes that decode (`apart`) use a few threads.
Raises ImageError and nothing else (and asyncio.CancelledError when the caller is cancelled).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpcore

from backend.errors import ImageError
from backend.images.addresses import Resolver, system_resolver
from backend.images.apart import Decoders
from backend.images.decode import FetchedImage
from backend.images.decoding import DecodingThreads
from backend.images.file_reader import FileReader
from backend.images.files import read_below, read_data_uri, read_file
from backend.images.network_turns import Turns
from backend.images.policy import ImagePolicy
from backend.images.replies import Retry
from backend.images.sources import InlineSource, LocalSource, Source, WebSource, classify
from backend.images.transfer import Transfer
from backend.label_studio.address import LabelStudioAddresses
from backend.shared_work import SharedWork
from backend.urls import Target

_log = logging.getLogger(__name__)


class _Callers:
    """One kind of caller, bulk work or a person: its turns, its decoding threads, the downloads under way for it."""

    def __init__(self, turns: Turns, num_threads: int) -> None:
        self.turns = turns
        self.threads = DecodingThreads(num_threads)
        self.downloads: SharedWork[tuple[str, Source], FetchedImage] = SharedWork()


class _Deadline:
    """Starts with the first turn, so that waiting for a turn does not count against the source."""

    def __init__(self, total_s: float) -> None:
        self._total_s = total_s
        self._ends_at: float | None = None

    def start(self) -> float:
        if self._ends_at is None:
            self._ends_at = asyncio.get_running_loop().time() + self._total_s
        return self._ends_at

    def has_passed_in(self, wait_s: float) -> bool:
        return asyncio.get_running_loop().time() + wait_s >= self.start()


class ImageFetcher:
    """`resolver` and `network` are seams for tests: how names become addresses, and how a connection is opened."""

    def __init__(
        self,
        policy: ImagePolicy,
        *,
        resolver: Resolver = system_resolver,
        network: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self._policy = policy
        self._limits = policy.limits
        self._transfer = Transfer(policy, resolver, network or httpcore.AnyIOBackend())
        self._bulk = _Callers(Turns(policy.limits), policy.limits.decode_threads)
        few = replace(
            policy.limits, max_total=policy.limits.max_interactive, max_unproven=policy.limits.max_interactive
        )
        self._interactive = _Callers(Turns(few), 1)
        limits = policy.limits
        self._decoders = Decoders(limits)
        self._files = FileReader(
            self._bulk.threads.executor,
            limits.decode_threads,
            lambda path: self._decoders.decode(read_file(path, limits.max_bytes)),
        )
        self._closed = False

    @property
    def label_studio(self) -> LabelStudioAddresses:
        """Every address that pictures of Label Studio may be written with. It may be told of more."""
        return self._policy.label_studio

    async def fetch(
        self,
        url: object,
        *,
        task_id: int | None = None,
        timeout_s: float | None = None,
        interactive: bool = False,
        project: str = "",
    ) -> FetchedImage:
        """Fetch what a task's image field says. `timeout_s` is this caller's own patience, waiting included.

        `task_id` is needed for s3://, gs:// and azure-blob://. `interactive`: a person waits, so it has turns of its
        own and does not queue behind the others. `project`: whose turns it takes. Callers bound how many fetches they
        start: each may hold one file of `max_bytes`. Raises ImageError.
        """
        self._check_open()
        source = classify(url, self._policy, task_id)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._shared(project, source, self._interactive if interactive else self._bulk)
        except TimeoutError:
            raise ImageError("timeout", "The picture was not there in time.", retryable=True) from None

    async def fetch_file(self, path: Path) -> FetchedImage:
        """Decode a file a person named. For the command line only: no root, links are followed. Raises ImageError."""
        self._check_open()
        try:
            return await self._files.read(path, self._limits.queue_s)
        except TimeoutError:
            raise _too_many() from None

    async def aclose(self) -> None:
        """Cancel what is under way, close every connection and end the processes that decode."""
        self._closed = True
        self._files.close()
        both = (self._bulk, self._interactive)
        for callers in both:
            await callers.downloads.cancel()
        await self._transfer.aclose()
        for callers in both:
            callers.threads.close()
        self._decoders.close()

    async def _shared(self, project: str, source: Source, callers: _Callers) -> FetchedImage:
        try:
            return await callers.downloads.join((project, source), lambda: self._load(project, source, callers))
        except asyncio.CancelledError:
            if self._closed and not _is_cancelled():
                raise self._closed_error() from None
            raise

    async def _load(self, project: str, source: Source, callers: _Callers) -> FetchedImage:
        read = await self._reader(project, source, callers.turns)
        try:
            return await callers.threads.run(project, lambda: self._decoders.decode(read()), self._limits.queue_s)
        except TimeoutError:
            raise _too_many() from None

    async def _reader(self, project: str, source: Source, turns: Turns) -> Callable[[], bytes]:
        """What reads its bytes, for a thread; those of the web are here then."""
        max_bytes = self._limits.max_bytes
        if isinstance(source, LocalSource):
            root, paths = self._policy.local_files_root, source.relative_paths
            assert root is not None
            return lambda: read_below(root, paths, max_bytes)
        if isinstance(source, InlineSource):
            return lambda: read_data_uri(source.uri, max_bytes)
        data = await self._download(project, source, turns)
        return lambda: data

    async def _download(self, project: str, source: WebSource, turns: Turns) -> bytes:
        target, deadline = source.target, _Deadline(self._limits.total_s)
        for _ in range(self._limits.max_redirects + 1):
            reply = await self._hop(project, target, deadline, turns)
            if isinstance(reply, bytes):
                return reply
            target = reply
        host, times = source.target.origin.host, self._limits.max_redirects
        raise ImageError("unreachable", f"{host} redirects more than {times} times.")

    async def _hop(self, project: str, target: Target, deadline: _Deadline, turns: Turns) -> bytes | Target:
        """One address, with its retries. Between attempts the turn goes to others."""
        host = target.origin.host
        attempt = 0
        while True:
            try:
                async with turns.take(project, host):
                    async with asyncio.timeout_at(deadline.start()):
                        reply = await self._transfer.get(target)
                    turns.mark_proven(host)
                return reply
            except TimeoutError:
                turns.mark_unproven(host)
                raise ImageError("timeout", f"{host} did not deliver in time.", retryable=True) from None
            except Retry as retry:
                turns.mark_unproven(host)
                attempt += 1
                jitter = random.uniform(0.5, 1.0)  # noqa: S311  (no secret: only keeps many retries apart)
                wait_s = max(retry.wait_s, self._limits.retry_wait_s * 2**attempt * jitter)
                if attempt > retry.times or deadline.has_passed_in(wait_s):
                    raise retry.error from None
            _log.info("%s: attempt %d failed, again in %.1f s", host, attempt, wait_s)
            await asyncio.sleep(wait_s)

    def _check_open(self) -> None:
        if self._closed:
            raise self._closed_error()

    def _closed_error(self) -> ImageError:
        return ImageError("unreachable", "The picture was not fetched: prelabel is stopping.", retryable=True)


def _is_cancelled() -> bool:
    """Whether our caller is: else what it waits for was."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _too_many() -> ImageError:
    return ImageError("timeout", "Too many pictures are being decoded; try again.", retryable=True)
