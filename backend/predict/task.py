"""One task of Label Studio as far as a prediction needs it: its id, and where its picture is."""

from __future__ import annotations

from typing import NamedTuple

TaskId = int | str


class TaskInput(NamedTuple):
    """A tuple, because a hundred thousand of them come back from the parser process.

    `image_url` is None when the task's data has no text at the place its label config shows.
    """

    id: TaskId
    image_url: str | None
