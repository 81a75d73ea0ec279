"""Pictures of the requests that come next, made ready in threads while the device works on others.

Resizing and cutting into patches runs in a pool, one thread of which serves interactive requests alone. On a CPU the
vision tower runs here too, several pictures at a time, beside the decode steps; on a card it is part of the prefill,
because there is one device to share. What a picture's preparation raises comes out of `take`, and touches no other.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from backend.engine.messages import Submit
from backend.engine.prompts import Prompt

log = logging.getLogger(__name__)

MAX_PICTURES_AT_ONCE = 8
TAKE_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class _Waiting:
    prompt: Prompt
    patches: Future[Any]
    result: Future[Any]


class Preparation:
    """`to_patches(request, prompt)` is called in a pool. `encode(patches, grids)`, if given, in one thread after it."""

    def __init__(
        self,
        to_patches: Callable[[Submit, Prompt], Any],
        encode: Callable[[list[Any], list[Any]], list[Any]] | None,
        num_threads: int,
    ) -> None:
        self._to_patches = to_patches
        self._encode = encode
        self._bulk = ThreadPoolExecutor(max(1, num_threads), thread_name_prefix="pictures")
        self._interactive = ThreadPoolExecutor(1, thread_name_prefix="picture-interactive")
        self._results: dict[int, Future[Any]] = {}
        # interactive first, then by request number
        self._queue: queue.PriorityQueue[tuple[bool, int, _Waiting | None]] = queue.PriorityQueue()  # None: the end
        if encode is not None:
            threading.Thread(target=self._encode_queued, name="vision", daemon=True).start()

    def __contains__(self, request_id: int) -> bool:
        return request_id in self._results

    def __len__(self) -> int:
        return len(self._results)

    def start(self, request: Submit, prompt: Prompt) -> None:
        pool = self._interactive if request.interactive else self._bulk
        patches = pool.submit(self._to_patches, request, prompt)
        if self._encode is None:
            self._results[request.request_id] = patches
            return
        result: Future[Any] = Future()
        result.add_done_callback(lambda _: patches.cancel())  # nobody resizes a picture that was discarded
        self._results[request.request_id] = result
        self._queue.put((not request.interactive, request.request_id, _Waiting(prompt, patches, result)))

    def take(self, request_id: int, limit_s: float | None = None) -> Any:
        """Wait for what was prepared and hand it over. Raises what preparing it raised, TimeoutError at the limit."""
        return self._results.pop(request_id).result(TAKE_LIMIT_S if limit_s is None else limit_s)

    def discard(self, request_id: int) -> None:
        """The request is not wanted any more."""
        future = self._results.pop(request_id, None)
        if future is not None:
            future.cancel()

    def close(self) -> None:
        """End the threads once they have done what they are at. What was not begun is dropped."""
        self._bulk.shutdown(cancel_futures=True)
        self._interactive.shutdown(cancel_futures=True)
        self._queue.put((False, -1, None))

    def _encode_queued(self) -> None:
        while True:
            taken = [self._queue.get()[2]]
            while len(taken) < MAX_PICTURES_AT_ONCE and not self._queue.empty():
                taken.append(self._queue.get()[2])
            batch = [waiting for waiting in taken if waiting is not None]
            if len(batch) < len(taken):
                return
            batch = [waiting for waiting in batch if waiting.result.set_running_or_notify_cancel()]
            if batch:
                self._encode_batch(batch)

    def _encode_batch(self, batch: list[_Waiting]) -> None:
        assert self._encode is not None
        ready: list[tuple[_Waiting, Any]] = []
        for waiting in batch:
            try:
                ready.append((waiting, waiting.patches.result(TAKE_LIMIT_S)))
            except Exception as error:  # a job's border: whoever takes the result raises it
                waiting.result.set_exception(error)
        if not ready:
            return
        try:
            encoded = self._encode([patches for _, patches in ready], [w.prompt.grid for w, _ in ready])
        except Exception as error:
            if len(ready) > 1:
                log.warning("a vision pass of %d pictures failed; trying them one by one", len(ready))
                for waiting, _ in ready:
                    self._encode_batch([waiting])
            else:
                ready[0][0].result.set_exception(error)
            return
        for (waiting, _), result in zip(ready, encoded, strict=True):
            waiting.result.set_result(result)
