"""Values as bytes that cross the border of a process, read without believing who wrote them.

They are pickles. A pickle that may name a class may also change it, for all who use it afterwards. So what `Reader`
finds where one stands is no class, but what makes a value of it, out of the parts that its fields are. Knows nothing of
what is in them.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any

Kinds = Mapping[tuple[str, str], type]
"""The classes that values may be of, by module and name."""


def kinds_of(classes: Iterable[type]) -> Kinds:
    return MappingProxyType({(each.__module__, each.__name__): each for each in classes})


class _Writer(pickle.Pickler):
    def __init__(self, file: io.BytesIO, kinds: Kinds) -> None:
        super().__init__(file)
        self._kinds = frozenset(kinds.values())

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        return (kind, _parts(value)) if kind in self._kinds else NotImplemented


class _Reader(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, kinds: Kinds, calls: Mapping[tuple[str, str], Callable[..., Any]]) -> None:
        super().__init__(file)
        self._kinds = kinds
        self._calls = calls

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Made anew each time: what a pickle changes of it lasts no longer than it is read."""
        if call := self._calls.get((module, name)):
            return lambda *parts: call(*parts)
        if kind := self._kinds.get((module, name)):
            return lambda *parts: _made(kind, parts)
        raise pickle.UnpicklingError(f"{module}.{name} is nothing that such a value is made of")


def written(value: object, kinds: Kinds) -> bytes:
    """Raises what pickling raises."""
    file = io.BytesIO()
    _Writer(file, kinds).dump(value)
    return file.getvalue()


def read(data: bytes, kinds: Kinds, calls: Mapping[tuple[str, str], Callable[..., Any]] = MappingProxyType({})) -> Any:
    """`calls`: functions that values may have been made by, by module and name. Raises anything: most of all
    pickle.UnpicklingError for what is made of something else."""
    return _Reader(io.BytesIO(data), kinds, calls).load()


def _names(kind: type) -> Collection[str]:
    """Of a dataclass's fields: `dataclasses.fields` takes as long for each of 20,000 labels as all else."""
    found: Mapping[str, object] = getattr(kind, "__dataclass_fields__", {})
    return found.keys()


def _parts(value: Any) -> tuple[Any, ...]:
    if isinstance(value, BaseException):
        return value.args, vars(value)
    if isinstance(value, tuple):
        return tuple(value)
    if names := _names(type(value)):
        return tuple(getattr(value, name) for name in names)
    return (vars(value),)


def _made(kind: type, parts: tuple[Any, ...]) -> Any:
    if issubclass(kind, BaseException):
        args, more = parts
        error = kind.__new__(kind, *args)
        vars(error).update(more)
        return error
    if issubclass(kind, tuple):
        return kind(*parts)
    if names := _names(kind):
        value = object.__new__(kind)
        for name, part in zip(names, parts, strict=True):
            object.__setattr__(value, name, part)
        return value
    return kind(**parts[0])
