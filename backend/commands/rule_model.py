"""The model for a trial: the running server's, else one that this command starts and ends.

Two models do not fit on a card, so who serves the data folder is asked (POST /trial): it goes on with its work, people
first, and nothing of the trial is stored. Where nobody serves the folder, the command loads the model itself, as
`annotate` does. Raises PrelabelError.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console

from backend.bulk.loading import wait_with_progress
from backend.engine.api import Engine
from backend.errors import PrelabelError
from backend.metrics import Metrics
from backend.predict.build import build_engine, build_images
from backend.predict.label_configs import schema_of
from backend.predict.options import ProjectOptions
from backend.predict.predictor import Answerer, Images
from backend.predict.trial import MAX_TASKS, Trial, TrialAnswer, TrialReply, TrialTask, try_out
from backend.settings import Settings
from backend.status.reading import StatusReader
from backend.store.lock import is_served

Model = Callable[[Trial], TrialReply]


@contextmanager
def trial_model(
    settings: Settings,
    make_engine: Callable[[Settings], Engine] = build_engine,
    make_images: Callable[[Settings], Images] = build_images,
) -> Iterator[Model]:
    """For as long as the block runs. `settings.data_dir` must be there."""
    if is_served(settings.data_dir):
        with _server(settings) as model:
            yield model
    else:
        if settings.log_level == "INFO":
            settings = settings.model_copy(update={"log_level": "WARNING"})  # what came of the trial is the news
        engine, images = make_engine(settings), make_images(settings)
        with asyncio.Runner() as runner, _own(settings, engine, images, runner) as model:
            yield model


@contextmanager
def _server(settings: Settings) -> Iterator[Model]:
    password = settings.basic_auth_pass.get_secret_value()
    with StatusReader(settings.own_url, settings.basic_auth_user, password) as reader:
        try:
            reader.text()  # a model that is still loading is said at the first trial
        except PrelabelError as error:
            raise PrelabelError(
                f"{error} A server has the data folder {settings.data_dir}, and its model is to be asked: set "
                "PRELABEL_PORT, PRELABEL_HOST and BASIC_AUTH_PASS as it has them."
            ) from None
        yield reader.trial


@contextmanager
def _own(settings: Settings, engine: Engine, images: Images, runner: asyncio.Runner) -> Iterator[Model]:
    try:
        runner.run(engine.start())
        runner.run(wait_with_progress(engine, Console(stderr=True)))
        answerer = Answerer(engine, images, Metrics())

        def ask(trial: Trial) -> TrialReply:
            schema = schema_of(trial.label_config)
            return runner.run(try_out(answerer, engine, trial, schema, settings.image_tokens))

        yield ask
    finally:
        runner.run(images.aclose())
        runner.run(engine.close())


def answers_of(
    model: Model, project: str, label_config: str, options: ProjectOptions, tasks: Sequence[TrialTask]
) -> list[TrialAnswer]:
    """One a task, in order, some at a time, with a line on a terminal that says how far it is."""
    found: list[TrialAnswer] = []
    for start in range(0, len(tasks), MAX_TASKS):
        some = tuple(tasks[start : start + MAX_TASKS])
        found += model(Trial(label_config=label_config, options=options, project=project, tasks=some)).answers
        if sys.stderr.isatty():
            print(f"\r{len(found):,}/{len(tasks):,}", end="\n" if len(found) == len(tasks) else "", file=sys.stderr)
    return found
