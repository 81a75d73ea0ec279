"""What one project asks for: its fields, the labels they allow, and a fingerprint of both.

A `LabelSchema` is the parsed form of a Label Studio label config. Everything downstream (prompt,
grammar, answers, regions, review rules) is derived from it and from nothing else.
Knows nothing of XML, models, HTTP or files. All values are frozen, picklable and hashable, so a schema
can cross a process border and be a cache key; one crosses as bytes that are made once and read once, because thousands
of labels, sent with each picture, take longer than its answer. Nothing here raises except `LabelSchema.field`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cache, cached_property, lru_cache
from typing import Any

from label_config.crossing import Kinds, kinds_of, read, written

SHORT_CHARS = 100  # the limit of a short text whose control has none
MAX_UNPACKED = 64  # schemas that came from other processes and are remembered; 2 MB each at most


@dataclass(frozen=True, slots=True)
class Choice:
    """One `<Choice>`: `value` is what people and the model read, `alias` what Label Studio stores instead."""

    value: str
    alias: str = ""
    hint: str = ""

    @property
    def stored(self) -> str:
        """The string Label Studio keeps in a region: the alias if there is one, else the value."""
        return self.alias or self.value


@dataclass(frozen=True, slots=True)
class TaxonomyNode(Choice):
    """One node of a `<Taxonomy>` tree; a node without children is a leaf."""

    children: tuple[TaxonomyNode, ...] = ()


@dataclass(frozen=True, slots=True)
class _Asked:
    """What every field has: the control tag's name, the image it points at, and what the form says of it."""

    name: str
    to_name: str
    title: str = field(default="", kw_only=True)
    hint: str = field(default="", kw_only=True)
    required: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class TextField(_Asked):
    """A `<TextArea>`: a description. `max_chars` is the control's own limit; the prompt may ask for less."""

    max_chars: int | None = None


@dataclass(frozen=True, slots=True)
class ShortTextField(TextField):
    """A `<TextArea>` that is no description: what its title asks for; null where it is not required and cannot be
    seen."""

    @property
    def limit(self) -> int:
        return self.max_chars or SHORT_CHARS


@dataclass(frozen=True)  # without slots: what is looked up in it is made once
class ChoicesField(_Asked):
    """A `<Choices>` control; `multiple` is Label Studio's choice="multiple"."""

    choices: tuple[Choice, ...]
    multiple: bool = False

    @cached_property
    def values(self) -> dict[str, str]:
        """The value of each label, as it stands there or as Label Studio stores it; what is stored wins over a value
        that happens to be another choice's alias."""
        return {c.value: c.value for c in self.choices} | {c.stored: c.value for c in self.choices}


@dataclass(frozen=True)
class TaxonomyField(_Asked):
    """A `<Taxonomy>` control. An answer is 1..`max_paths` paths of `roots`; without `max_usages` one is asked for."""

    roots: tuple[TaxonomyNode, ...]
    leaves_only: bool = False
    max_usages: int | None = None

    @property
    def max_paths(self) -> int:
        return self.max_usages or 1

    def paths(self) -> Iterator[tuple[TaxonomyNode, ...]]:
        """Every path an answer may take, depth first: leaves only, or inner nodes too."""
        stack: list[tuple[TaxonomyNode, ...]] = [(node,) for node in reversed(self.roots)]
        while stack:
            path = stack.pop()
            children = path[-1].children
            if not children or not self.leaves_only:
                yield path
            stack.extend((*path, child) for child in reversed(children))

    def nodes(self) -> Iterator[TaxonomyNode]:
        """Every node, in no order that means anything."""
        stack = list(self.roots)
        while stack:
            node = stack.pop()
            yield node
            stack += node.children

    def find(self, path: Sequence[str], *, stored: bool = False) -> tuple[TaxonomyNode, ...] | None:
        """The nodes of `path`, given by values (or by what Label Studio stores); None if no answer may take it."""
        nodes: tuple[TaxonomyNode, ...] = ()
        children = self.roots
        known = self._by_stored if stored else self._by_value
        for label in path:
            node = known.get((id(children), label))
            if node is None:
                return None
            nodes, children = (*nodes, node), node.children
        return nodes if nodes and not (self.leaves_only and children) else None

    @cached_property
    def _by_value(self) -> dict[tuple[int, str], TaxonomyNode]:
        return _first_of_each(self.roots, lambda node: node.value)

    @cached_property
    def _by_stored(self) -> dict[tuple[int, str], TaxonomyNode]:
        return _first_of_each(self.roots, lambda node: node.stored)


def _first_of_each(
    roots: tuple[TaxonomyNode, ...], label_of: Callable[[TaxonomyNode], str]
) -> dict[tuple[int, str], TaxonomyNode]:
    """By the identity of the list it stands in and its label, the first such node: whoever labels may name thousands of
    paths, and each would be looked for in thousands of nodes."""
    found: dict[tuple[int, str], TaxonomyNode] = {}
    lists = [roots]
    while lists:
        nodes = lists.pop()
        for node in nodes:
            found.setdefault((id(nodes), label_of(node)), node)
        lists += [node.children for node in nodes if node.children]
    return found


@dataclass(frozen=True)
class PathChoicesField(TaxonomyField):
    """A single `<Choices>` with pathSeparator: the leaves of a tree, each written as its whole path in one label.

    For the model it is a taxonomy of which one leaf is asked for; a person picks it in one list, and Label Studio
    stores the label.
    """

    separator: str = " / "

    def label(self, path: Sequence[str]) -> str:
        """`path` as its one label."""
        return self.separator.join(path)


@dataclass(frozen=True, slots=True)
class RatingField(_Asked):
    """A `<Rating>` control: a whole number of stars, 1..`max_rating`."""

    max_rating: int = 5


@dataclass(frozen=True, slots=True)
class NumberField(_Asked):
    """A `<Number>` control: `minimum` <= n <= `maximum`; `step` 1 means whole numbers."""

    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None


Field = TextField | ChoicesField | TaxonomyField | RatingField | NumberField


@dataclass(frozen=True, slots=True)
class Condition:
    """One `visibleWhen`: of `tag` (any other Choices if ""), one of `values` (any if none) is selected, or is not.

    `on_control`: it stands on the control itself, not on a tag around it.
    """

    tag: str = ""
    values: tuple[str, ...] = ()
    unselected: bool = False
    on_control: bool = False

    @property
    def num_chars(self) -> int:
        return sum(len(text) + 1 for text in (self.tag, *self.values))


@dataclass(frozen=True, slots=True)
class ReviewControls:
    """The controls that the review rules fill, not the model: a flag (`<Choices>`) and a reason (`<TextArea>`)."""

    to_name: str
    flag_name: str = ""
    flag: Choice | None = None
    reason_name: str = ""


@dataclass(frozen=True)
class LabelSchema:
    """The fields of one project, in the order of its label config.

    `image_name` is the name of the `<Image>` tag, `image_key` the place in a task's data it shows:
    one name without "$", or a text with names in it (`label_config.task_value` reads it).
    `warnings` name the tags that were left out and why, `traps` say where Label Studio's form misleads the people who
    label; neither is part of the fingerprint.
    """

    fields: tuple[Field, ...]
    image_name: str
    image_key: str
    review: ReviewControls | None = None
    warnings: tuple[str, ...] = ()
    traps: tuple[str, ...] = ()
    conditions: tuple[tuple[str, tuple[Condition, ...]], ...] = ()  # of the fields that have some, by name

    @cached_property
    def fingerprint(self) -> str:
        """12 hex digits of the SHA-256 of everything an answer depends on. Stable across processes."""
        content: dict[str, Any] = {
            "image": [self.image_name, self.image_key],
            "fields": [[type(f).__name__, f] for f in self.fields],
            "review": self.review,
        }
        if self.conditions:
            content["conditions"] = self.conditions
        text = json.dumps(content, ensure_ascii=True, sort_keys=True, separators=(",", ":"), default=_by_name)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @cached_property
    def _packed(self) -> bytes:
        parts = (getattr(self, each.name) for each in fields(self))
        return written((self.fingerprint, *parts), _kinds())  # with it, so that nobody else has to compute it

    def __reduce__(self) -> tuple[Callable[[bytes], LabelSchema], tuple[bytes]]:
        return unpacked, (self._packed,)

    @property
    def answer_order(self) -> tuple[Field, ...]:
        """Fields in the order they are generated: labels first, texts last.

        A label decided after a caption would inherit the caption's sampled words, and its confidence would
        say how well it agrees with them, not with the picture.
        """
        labels = tuple(f for f in self.fields if not isinstance(f, TextField))
        return labels + tuple(f for f in self.fields if isinstance(f, TextField))

    @property
    def caption(self) -> TextField | None:
        """The first description; a brand is none."""
        texts = (f for f in self.fields if isinstance(f, TextField) and not isinstance(f, ShortTextField))
        return next(texts, None)

    def field(self, name: str) -> Field:
        """The field called `name`. Raises KeyError."""
        for found in self.fields:
            if found.name == name:
                return found
        raise KeyError(name)


@lru_cache(MAX_UNPACKED)
def unpacked(packed: bytes) -> LabelSchema:
    """As `read_packed`, for all who ask for the same one."""
    return read_packed(packed)


def read_packed(packed: bytes) -> LabelSchema:
    """A schema out of bytes, which may be of a process that was taken over: it is made of the classes of this module or
    not at all. Raises anything."""
    fingerprint, *parts = read(packed, _kinds())
    schema = LabelSchema(*parts)
    vars(schema)["fingerprint"] = fingerprint
    return schema


@cache
def _kinds() -> Kinds:
    return kinds_of(each for each in globals().values() if isinstance(each, type) and each.__module__ == __name__)


def _by_name(value: Any) -> dict[str, Any]:
    """A dataclass as JSON has it; what stands in it is left to the next call."""
    return {each.name: getattr(value, each.name) for each in fields(value)}
