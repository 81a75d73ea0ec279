"""What is asked in one request, and what is known of it on its way through a store. Plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from backend.predict.recipe import Recipe
from backend.predict.task import TaskInput
from backend.queue.waiting import Waiter
from backend.store.types import NewWork, RecipeRecord

BYTES_PER_TASK = 1_000
"""In memory, beside its address: its row, and what knows of it."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Whose tasks they are. `label_config` is the text the recipe's schema was read from; `asked_at`: when the request
    came (seconds since the epoch). `keep`: somebody may ask for the answers later. `audit_share`: of the project's
    tasks, those whose answers are not shown."""

    project: str
    label_config: str
    recipe: Recipe
    interactive: bool
    asked_at: float
    keep: bool = True
    audit_share: float = 0.0

    @property
    def record(self) -> RecipeRecord:
        recipe = self.recipe
        return RecipeRecord(recipe.fingerprint, self.project, self.label_config, recipe.options.model_dump_json())


@dataclass(slots=True, eq=False)
class Request:
    """`numbers`: the ids of `tasks` in the store. `asked_at`: seconds since the epoch. `rows` are what is asked of the
    store; `whole`, by number, the tasks whose rows have no address. `is_left_to_push`: the reply
    holds nothing, the delivery brings it all."""

    ask: Ask
    tasks: Sequence[TaskInput]
    numbers: Sequence[int]
    version: str
    deadline: float
    asked_at: float
    is_left_to_push: bool = False
    waiter: Waiter = field(init=False)
    rows: list[NewWork] = field(default_factory=list)
    whole: dict[int, TaskInput] = field(default_factory=dict)
    held_bytes: int = 0

    def __post_init__(self) -> None:
        self.waiter = Waiter(self.ask.project, self.version)

    @property
    def work_ids(self) -> list[int]:
        """Of each task its row of work; -1 where the store has none yet."""
        return [self.waiter.ids.get(number, -1) for number in self.numbers]

    @property
    def num_bytes(self) -> int:
        """About as many as it takes to hold the tasks."""
        return sum(BYTES_PER_TASK + len(task.image_url or "") for task in self.tasks)
