"""The checks as `prelabel serve` makes them: what it refuses to start with, and what it looks at while it runs.

`prelabel doctor` makes the same ones, and more that only it has the time for.
"""

from __future__ import annotations

import logging

from backend.engine.api import EngineStatus
from backend.errors import SettingsError
from backend.pages.words import Words
from backend.settings import Settings
from backend.status.check import Check, troubles
from backend.status.label_studio_checks import label_studio_checks, written_checks
from backend.status.machine_checks import (
    card_check,
    data_dir_check,
    disk_checks,
    disk_of,
    driver_version,
    memory_plan,
    model_check,
    model_folder,
)  # fmt: skip
from model_loader.errors import ModelError
from model_loader.sources import AUTO, Card

log = logging.getLogger(__name__)

_words = Words("en")


def refuse_hopeless(settings: Settings) -> None:
    """Raise SettingsError, a line for each thing, where nothing could work. Log what a person should look at."""
    checks = [model_check(settings), *written_checks(settings), data_dir_check(settings.data_dir)]
    texts = [_words.check(check.code, check.values) for check in checks if check.verdict == "bad"]
    if texts:
        raise SettingsError("\n".join(texts))
    for check in troubles([*checks, *_room_for_model(settings)]):
        log.warning("check of %s: %s", _words.check_name(check.name), _words.check(check.code, check.values))


def running_checks(settings: Settings, status: EngineStatus) -> list[Check]:
    """What may change while it runs: Label Studio, the data folder, and whether the card is used."""
    checks = [data_dir_check(settings.data_dir)]
    if status.ready:
        device = status.ready.device
        card = Card(device, 0.0) if device.startswith("cuda") else None
        checks.append(card_check(settings, card, driver_version()))
    return [*checks, *label_studio_checks(settings)]


def _room_for_model(settings: Settings) -> list[Check]:
    """Of a model whose numbers are known here; which one `auto` takes only the engine knows."""
    if settings.model == AUTO:
        return []
    try:
        plan = memory_plan(settings, settings.model, None)
    except (ModelError, OSError, ValueError):
        return []
    downloads, copies = disk_of(model_folder()), disk_of(settings.quantised_folder)
    return list(disk_checks(settings, settings.model, plan, downloads, copies))
