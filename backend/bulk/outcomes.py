"""What becomes of one picture of a bulk run: a record, or a failure with a reason. Picklable, for other machines too.

`Annotator` is the seam: the engine of this process (`backend.bulk.local`) is one, another machine's may be another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from backend.bulk.items import Item
from backend.logs import one_line, redact
from backend.reasons import Reason

MAX_MESSAGE_CHARS = 500


@dataclass(frozen=True, slots=True)
class Record:
    """`line` is the whole line of the output. `reused`: it cost no work of the model."""

    line: Mapping[str, Any]
    reused: bool = False

    @property
    def needs_review(self) -> bool:
        return bool(self.line["needs_review"])

    @property
    def is_withheld(self) -> bool:
        """For the blind audit: nobody who labels is to see the answer."""
        return bool(self.line.get("withheld"))

    def withheld(self) -> Record:
        return Record({**self.line, "withheld": True}, self.reused)


@dataclass(frozen=True, slots=True)
class FailedItem:
    """`reason` is one of `backend.reasons`."""

    line: Mapping[str, Any]

    @property
    def reason(self) -> str:
        return str(self.line["reason"])

    @classmethod
    def of(cls, item: Item, reason: Reason, message: str) -> FailedItem:
        document = item.document()
        said = one_line(redact(message))[:MAX_MESSAGE_CHARS]
        line = {"image_id": item.image_id, "image": document.pop("image"), "reason": reason, "message": said}
        return cls({**line, **document})


Outcome = Record | FailedItem


class Annotator(Protocol):
    async def annotate(self, item: Item) -> Outcome:
        """Raises only what concerns every picture: EngineDead when there will be no engine any more."""
        ...
