"""One picture of a bulk run, its id, and which of them are new: each identity once, each id once.

An item's identity is what a resumed run recognises it by: its path or address, and its task if it has one (exports of
two projects or servers may count their tasks alike). Its id is what people read; ids are given in the order of
enumeration, and one that is taken gets "-2", "-3", ... Pure; nothing raises.
Memory: about 200 bytes an item while they are counted, 100 when the run begins, less and less while it goes on. Items
that share their names with others cost another 100.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from backend.bulk.left_out import LeftOut
from backend.predict.task import TaskId

_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class Found:
    """A picture as a source names it. `image`: the resolved path, or the address, as text; "" if a task has none.

    `stem` is the id it would like. `is_file`: a path, not an address.
    """

    image: str
    stem: str
    is_file: bool
    task_id: TaskId | None = None
    inline: str = field(default="", repr=False)
    """The whole `data:` address, of which `image` is only the digest."""

    @property
    def location(self) -> str:
        return self.inline or self.image

    @property
    def identity(self) -> bytes:
        return identity(self.image, self.task_id)


@dataclass(frozen=True, slots=True)
class Item:
    """`found` under the id that is its own in the whole output."""

    image_id: str
    found: Found

    def document(self) -> dict[str, Any]:
        """What a line says of where the picture is."""
        task_id = {} if self.found.task_id is None else {"task_id": self.found.task_id}
        return {"image": self.found.image, **task_id}


def identity(image: str, task_id: TaskId | None) -> bytes:
    return digest(image if task_id is None else f"task:{task_id}\n{image}")


def identity_of(line: Mapping[str, Any]) -> bytes:
    """Of a line of the output or of the failures. Raises KeyError for a line that is neither."""
    return identity(str(line["image"]), line.get("task_id"))


def digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()


@dataclass(slots=True)
class Known:
    """What an output holds from before, as digests: identities annotated, those failed with the reason, ids in use."""

    done: set[bytes] = field(default_factory=set)
    failed: dict[bytes, str] = field(default_factory=dict)
    ids: set[bytes] = field(default_factory=set)


class Listing:
    """Iterate over it once, for the items that are new. The counts are right when the iteration has ended.

    The run then goes through the sources again (`again`): pictures that have come meanwhile are left to the next run.
    """

    def __init__(
        self, found: Iterable[Found], known: Known, limit: int | None = None, left_out: LeftOut | None = None
    ) -> None:
        """`limit`: only the first so many pictures, those known from before included. `left_out` is told of pictures
        that are named once more."""
        self._found = found
        self._known = known
        self._limit = limit
        self._left_out = left_out or LeftOut()
        self.num_total = 0
        self.num_done_before = 0
        self.failed_before: Counter[str] = Counter()
        self._new: set[bytes] = set()
        self._has_own_names = True

    def __iter__(self) -> Iterator[Item]:
        seen: set[bytes] = set()  # not attributes: the counts outlive them
        ids = _Ids(self._known.ids)
        for found in self._found:
            key = found.identity
            if key in seen:
                self._left_out.add("named_twice", found.image or found.stem)
                continue
            seen.add(key)
            self.num_total += 1
            if key in self._known.done:
                self.num_done_before += 1
            elif (reason := self._known.failed.get(key)) is not None:
                self.failed_before[reason] += 1
            else:
                self._new.add(_named(found))
                image_id = ids.new(found.stem)
                self._has_own_names &= image_id == found.stem
                yield Item(image_id, found)
            if self.num_total == self._limit:
                return

    def again(self, found: Iterable[Found]) -> Iterator[Item]:
        """The same items, from the same sources as before; call it once, after the iteration."""
        ids = None if self._has_own_names else _Ids(self._known.ids)
        for picture in found:
            key = _named(picture)
            if key not in self._new:
                continue
            self._new.remove(key)
            yield Item(picture.stem if ids is None else ids.new(picture.stem), picture)
            if not self._new:
                return

    @property
    def num_new(self) -> int:
        return self.num_total - self.num_done_before - self.failed_before.total()


def _named(found: Found) -> bytes:
    """A picture under the name it was counted with: a link that has come since may give it another."""
    return digest(f"{found.identity.hex()}\n{found.stem}")


class _Ids:
    """Those in use, as digests, and for names that were taken the number to go on with."""

    def __init__(self, used: set[bytes]) -> None:
        self._used = set(used)
        self._next: dict[bytes, int] = {}

    def new(self, stem: str) -> str:
        """`stem`, or with the first number that makes it new; noted."""
        name, key = stem, digest(stem)
        if key not in self._used:
            self._used.add(key)
            return name
        for number in count(self._next.get(key, 2)):
            name = f"{stem}-{number}"
            if (other := digest(name)) not in self._used:
                self._used.add(other)
                self._next[key] = number + 1
                return name
        raise AssertionError("count() has no end")
