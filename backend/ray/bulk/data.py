"""Pictures through Ray Data: batches of items to the workers, their replies back as soon as each is done.

A worker that dies is started again by Ray and its batches are given out once more, MAX_TRIES times each at most. All
items lie in Ray's object store from the start, some hundred bytes each. Blocking; use `replies` from one thread.
Raises UsageError (no cluster, or one that is too small), and EngineDead when Ray gives up.
"""

from __future__ import annotations

import logging
import math
import pickle
import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from backend.bulk.items import Item
from backend.bulk.label_configs import LabelConfig
from backend.engine.own_code import running_code
from backend.errors import EngineDead
from backend.ray.bulk.worker import COLUMN, BulkWorker, Reply
from backend.ray.cluster import WorkerPlan, on_any_machine
from backend.settings import Settings

if TYPE_CHECKING:
    import pyarrow

MAX_TRIES = 4
MAX_BATCH = 64
MAX_BATCHES_AT_ONCE = 32


def batch_sizes(num_items: int, num_workers: int, max_slots: int) -> tuple[int, int]:
    """How many pictures a batch has, and how many batches a worker has at once.

    A batch comes back when its last picture is done, so it is a quarter of the slots; together they are twice the
    slots, so that the next pictures are at hand. Every worker gets its share of a small run.
    """
    share = math.ceil(num_items / (4 * num_workers))
    size = max(1, min(max_slots // 4, MAX_BATCH, share))
    return size, min(MAX_BATCHES_AT_ONCE, math.ceil(2 * max_slots / size))


def replies(
    settings: Settings,
    config: LabelConfig | None,
    items: Iterable[Item],
    num_items: int,
    plan: WorkerPlan,
    tell: Callable[[str], None],
) -> Iterator[Reply]:
    """In the cluster that was joined. Replies come in order of completion. `tell`: for lines of workers that load."""
    import ray.data
    from ray.data import ActorPoolStrategy, DataContext
    from ray.data.exceptions import ExecutionTimeoutError
    from ray.exceptions import RayError

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = -1  # a model that is being loaded is none; our own limit is longer
    _hush()
    size, num_at_once = batch_sizes(num_items, plan.num_workers, settings.max_slots)
    try:
        with warnings.catch_warnings():
            # The number of tries has no other place in this version.
            warnings.filterwarnings("ignore", "`ray_remote_args_fn` is deprecated")
            dataset = ray.data.from_arrow(list(_tables(items, size))).map_batches(
                BulkWorker,
                fn_constructor_args=(on_any_machine(settings), config, tell, None, running_code()),
                batch_size=None,  # a block is a batch
                batch_format="numpy",
                compute=ActorPoolStrategy(
                    size=plan.num_workers,
                    max_concurrent_calls_per_actor=num_at_once,
                    max_tasks_in_flight_per_actor=num_at_once,
                    enable_true_multi_threading=True,
                ),
                num_cpus=plan.num_cpus,
                num_gpus=plan.num_gpus,
                ray_remote_args_fn=lambda: {"max_task_retries": MAX_TRIES - 1},
            )
        batches: Any = iter(dataset.iter_batches(batch_size=None, prefetch_batches=0))
        try:
            for batch in batches:
                for packed in batch[COLUMN]:
                    yield pickle.loads(packed)  # noqa: S301 - our own workers'
        finally:
            batches.close()  # now, while Ray is there, and not when it is collected
    except (RayError, ExecutionTimeoutError) as error:
        last = ([line for line in str(error).splitlines() if line.strip()] or [type(error).__name__])[-1]
        raise EngineDead(f"Ray gave up ({' '.join(last.split())[:300]}).") from error


def _tables(items: Iterable[Item], size: int) -> Iterator[pyarrow.Table]:
    import pyarrow

    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield pyarrow.table({COLUMN: pyarrow.array([pickle.dumps(item) for item in batch], pyarrow.binary())})


def _hush() -> None:
    """Its reports of progress would stand between ours; its log file has them all."""
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.CRITICAL)
