"""transformers' progress bars: none is drawn, and whoever wants to know is told what they count."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from transformers.utils import logging as transformers_logging

LOADED, WRITTEN = "Loading weights", "Writing model shards"
"""What bars count: (name, tensor) of a checkpoint that is loaded, (file, names) of one that is saved."""

Tell = Callable[[Any], None]


@contextlib.contextmanager
def told_bars(tell_of: Mapping[str, Tell]) -> Iterator[None]:
    """In this block each item of a bar that `tell_of` names is told, once it is done."""

    def hook(factory: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args and (tell := tell_of.get(str(kwargs.get("desc")))):
            return _told(args[0], tell)
        return factory(*args, **{**kwargs, "disable": True})

    previous = transformers_logging.set_tqdm_hook(hook)
    try:
        yield
    finally:
        transformers_logging.set_tqdm_hook(previous)


def _told(items: Iterable[Any], tell: Tell) -> Iterator[Any]:
    for item in items:
        yield item
        tell(item)
