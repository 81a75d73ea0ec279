"""What the SOURCEs hold and name that is not annotated: how much of it, by reason, with the first of each by name.

Together with the pictures it is everything that was found, so that nothing is missing from a run's account. Knows no
files. Nothing raises.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from backend.bulk.addresses import public_source
from backend.reasons import Reason, explained

MAX_EXAMPLES = 20
MAX_SHOWN = 3
_EXAMPLE_CHARS = 300

LOST: frozenset[Reason] = frozenset(
    {"folder_unreadable", "file_unreadable", "broken_link", "unread_format", "row_without_picture", "row_unusable"}
)
"""Reasons that may cost pictures which somebody meant to have: a run with one of them has not done everything."""


@dataclass(frozen=True, slots=True)
class LeftOutGroup:
    """`num` that were left out for `reason`; `examples` are the first of them, at most MAX_EXAMPLES."""

    reason: Reason
    num: int
    examples: tuple[str, ...]

    @property
    def is_lost(self) -> bool:
        return self.reason in LOST

    @property
    def shown(self) -> str:
        """The first examples, and how many more there are."""
        more = f" and {self.num - MAX_SHOWN:,} more" if self.num > MAX_SHOWN else ""
        return ", ".join(self.examples[:MAX_SHOWN]) + more

    @property
    def sentence(self) -> str:
        row = explained(self.reason)
        return f"{row.means_en}: {self.shown}. {row.do_en}"


@dataclass(slots=True)
class LeftOut:
    """Filled while the sources are gone through."""

    _num: dict[Reason, int] = field(default_factory=dict)
    _examples: dict[Reason, list[str]] = field(default_factory=dict)

    def add(self, reason: Reason, example: str) -> None:
        self._num[reason] = self._num.get(reason, 0) + 1
        examples = self._examples.setdefault(reason, [])
        if len(examples) < MAX_EXAMPLES:
            examples.append(public_source(example)[:_EXAMPLE_CHARS])

    @property
    def groups(self) -> tuple[LeftOutGroup, ...]:
        """What may have cost pictures first, then the largest."""
        groups = (LeftOutGroup(reason, num, tuple(self._examples[reason])) for reason, num in self._num.items())
        return tuple(sorted(groups, key=lambda group: (not group.is_lost, -group.num, group.reason)))


def num_left_out(groups: Sequence[LeftOutGroup]) -> int:
    return sum(group.num for group in groups)


def left_out_lines(groups: Sequence[LeftOutGroup]) -> Iterator[tuple[str, str, str]]:
    """Rows of a table of names, figures and notes."""
    if groups:
        yield "Left out", f"{num_left_out(groups):,}", ""
    for group in groups:
        yield "", f"{group.num:,}", f"{group.reason}: {group.sentence}"
