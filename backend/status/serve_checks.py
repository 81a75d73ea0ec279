"""The checks as `prelabel serve` makes them: what it refuses to start with, and what it looks at while it runs.

`prelabel doctor` makes the same ones, and more that only it has the time for.
"""

from __future__ import annotations

import logging

from backend.engine.api import EngineStatus
from backend.engine.own_code import is_another
from backend.errors import SettingsError
from backend.pages.words import Words
from backend.settings import Settings
from backend.status.check import Check, doubtful, good, troubles
from backend.status.label_studio_checks import label_studio_checks, written_checks
from backend.status.machine_checks import (
    card_check,
    data_dir_check,
    folder_checks,
    model_check,
    shared_memory_checks,
    volume_checks,
)  # fmt: skip
from model_loader.cards import read_signs, why_no_card
from model_loader.sources import AUTO

log = logging.getLogger(__name__)

_words = Words("en")


def refuse_hopeless(settings: Settings) -> None:
    """Raise SettingsError, a line for each thing, where nothing could work. Log what a person should look at."""
    checks = [model_check(settings), *written_checks(settings), data_dir_check(settings.data_dir)]
    checks += [*shared_memory_checks(), *volume_checks(settings.data_dir)]
    if settings.model != AUTO and not any(check.verdict == "bad" for check in checks):
        checks += folder_checks(settings, settings.model, on_card=False)  # auto, and a card's, the engine looks at
    texts = [_words.check(check.code, check.values) for check in checks if check.verdict == "bad"]
    if texts:
        raise SettingsError("\n".join(texts))
    for check in troubles(checks):
        log.warning("check of %s: %s", _words.check_name(check.name), _words.check(check.code, check.values))


def engine_checks(status: EngineStatus) -> list[Check]:
    """What makes the engine slower than it should be, now: another start of it may have to do without other parts."""
    about_disk = ("slow_starts",)
    return [doubtful("disk" if code in about_disk else "card", code, said=said) for code, said in status.slower]


def running_checks(settings: Settings, status: EngineStatus, code: str = "") -> list[Check]:
    """What takes a look: Label Studio, the data folder, whether the card is used, and whether prelabel's code is still
    that of the digest `code`: its next engine process would load nothing."""
    checks = [data_dir_check(settings.data_dir)]
    if is_another(code):
        checks.append(doubtful("code", "load_code_changed"))
    if status.ready:
        device = status.ready.device
        used = "cuda" in device  # "2 x cuda:0": of a Ray cluster, whatever this machine has itself
        checks.append(
            good("card", "card_used", card=device) if used else card_check(settings, why_no_card(read_signs()))
        )
    return [*checks, *label_studio_checks(settings)]
