"""A trial: what tasks would be answered under other options. Nothing of it is stored, and no form is filled with it.

Written once, for `prelabel serve` (POST /trial) and for a command that has an engine of its own; `Trial` and
`TrialReply` are what crosses between a command and the server, as JSON. It is no way out for what the blind audit
withholds: commands ask about tasks that people have labelled, and whoever asks the server knows its password.
"""

from __future__ import annotations

import asyncio

from pydantic import BaseModel, ConfigDict, Field

from backend.engine.api import Engine
from backend.logs import one_line, redact
from backend.predict.answered import Answered
from backend.predict.options import ProjectOptions
from backend.predict.predict_one import Failure, predict_one
from backend.predict.predictor import Answerer
from backend.predict.recipe import Recipe, recipe_of, with_instruction
from label_config.answer import Answer
from label_config.schema import LabelSchema

MAX_TASKS = 32
"""In one trial: their pictures are fetched at the same time."""
MAX_TRIALS = 4
"""At a time, in a server: each may hold its pictures as long as a body may be. A command asks for one at a time."""
MAX_TRIAL_VALUES = 1_000
MAX_CONFIG_CHARS = 256 * 1024
MAX_PROJECT_CHARS = 64
MAX_INSTRUCTION_CHARS = 4_000
MAX_IMAGE_CHARS = 64 * 2**20
FETCH_S = 120.0
READY_S = 60.0


class _Edge(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, protected_namespaces=())


class TrialTask(_Edge):
    """`image`: the address of its picture, as its data has it; None if they have none."""

    id: int
    image: str | None = Field(max_length=MAX_IMAGE_CHARS)


class Trial(_Edge):
    """`options`: all of them, not only what differs from a project's. `project`: whose turns it takes. `instruction`:
    in the place of the one that is made from both; it says the form of the answer, too."""

    label_config: str = Field(max_length=MAX_CONFIG_CHARS)
    options: ProjectOptions
    project: str = Field(default="", max_length=MAX_PROJECT_CHARS)
    instruction: str = Field(default="", max_length=MAX_INSTRUCTION_CHARS)
    tasks: tuple[TrialTask, ...] = Field(default=(), max_length=MAX_TASKS)


class TrialAnswer(_Edge):
    """`content`: the answer in its form in the store; "" if there is none, for `reason` and `message`."""

    content: str = ""
    reason: str = ""
    message: str = ""

    def answer(self, recipe: Recipe) -> Answer:
        """As `recipe` rates it. Raises ValueError where there is none."""
        return Answered.read(recipe, "", self.content).answer


class TrialReply(_Edge):
    """`model_version`: that of the trial's options. `answers`: one a task, in their order."""

    model_version: str
    answers: tuple[TrialAnswer, ...]


async def try_out(
    answerer: Answerer, engine: Engine, trial: Trial, schema: LabelSchema, image_tokens: int
) -> TrialReply:
    """`schema` is that of the trial's label config. Raises EngineNotReady, EngineDead and StoreError, which concern all
    tasks; what concerns one is its reason."""
    recipe = recipe_of(schema, trial.options, image_tokens)
    if trial.instruction:
        recipe = with_instruction(recipe, trial.instruction)
    version = recipe.version(await engine.wait_ready(READY_S))
    answers = await asyncio.gather(*(_answer(answerer, engine, recipe, task, trial.project) for task in trial.tasks))
    return TrialReply(model_version=version, answers=tuple(answers))


async def _answer(answerer: Answerer, engine: Engine, recipe: Recipe, task: TrialTask, project: str) -> TrialAnswer:
    found = await predict_one(
        answerer,
        recipe,
        lambda: answerer.fetch(recipe, task.image, task.id, FETCH_S, project=project),
        lambda: engine.wait_ready(READY_S),
        name=f"task {task.id}, in a trial",
        project=project,
    )
    if isinstance(found, Failure):
        return TrialAnswer(reason=found.reason, message=one_line(redact(found.message)))
    return TrialAnswer(content=found.content)
