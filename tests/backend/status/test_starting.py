"""How often a start is told where no line moves: no silence of an hour, and no flood."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backend.engine.api import EngineStatus
from backend.status.starting import EVERY_S, LinePace, said_of
from tests.fakes import READY

DOWNLOAD = EngineStatus("loading", "download", 0.02)


@pytest.mark.parametrize(
    ("after_s", "status", "is_due"),
    [
        pytest.param(1, DOWNLOAD, False, id="nothing new"),
        pytest.param(1, replace(DOWNLOAD, fraction=0.049, bytes_per_s=9e6), False, id="a little further"),
        pytest.param(1, replace(DOWNLOAD, fraction=0.051), True, id="a twentieth"),
        pytest.param(EVERY_S - 1, replace(DOWNLOAD, fraction=0.03), False, id="not a minute yet"),
        pytest.param(EVERY_S, replace(DOWNLOAD, fraction=0.021), True, id="a minute"),
        pytest.param(1, replace(DOWNLOAD, stalled_s=15.0), True, id="a silence"),
        pytest.param(EVERY_S, replace(DOWNLOAD, stalled_s=75.0), True, id="a silence that lasts"),
        pytest.param(1, replace(DOWNLOAD, stage="check"), True, id="the next stage"),
        pytest.param(1, EngineStatus("restarting", message="killed"), True, id="it died"),
        pytest.param(1, EngineStatus("ready", ready=READY), True, id="it is loaded"),
        pytest.param(1, EngineStatus("stopped"), False, id="it was asked to end"),
    ],
)
def test_a_line_is_due_for_what_is_new_and_for_each_minute_of_a_load(
    after_s: float, status: EngineStatus, is_due: bool
) -> None:
    now = 1_000.0
    pace = LinePace(lambda: now)
    assert pace.is_due(DOWNLOAD)
    now += after_s
    assert pace.is_due(status) is is_due
    assert not pace.is_due(status)


def test_what_does_not_load_is_told_once_however_long_it_lasts() -> None:
    now = 0.0
    pace, ready = LinePace(lambda: now), EngineStatus("ready", ready=READY)
    assert pace.is_due(ready)
    now += 100 * EVERY_S
    assert not pace.is_due(ready)


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (replace(DOWNLOAD, bytes_per_s=12e6, left_s=3_700), "2% Downloading the model (12.0 MB/s, 1 h 1 min left)"),
        (replace(DOWNLOAD, stalled_s=75.0), "2% Downloading the model (nothing has come for 1 min 15 s)"),
        (EngineStatus("loading", "card_again", left_s=9.0, message="End"), "0% Waiting for the card (9 s left): End"),
        (replace(DOWNLOAD, stage="download_again", message="no route"), "2% Waiting to download again: no route"),
        (replace(DOWNLOAD, message="it starts again without graphs"), "2% Downloading the model"),
        (EngineStatus("restarting", message="it was killed"), "Model restarting: it was killed"),
        (EngineStatus("ready", ready=READY), "garments (nf4) on cpu, 0.1 GiB, loaded in 0 s"),
        (EngineStatus("ready", ready=replace(READY, card="L4")), "garments (nf4) on L4, 0.1 GiB, loaded in 0 s"),
    ],
)
def test_a_line_says_how_far_it_is_or_what_came_of_it(status: EngineStatus, line: str) -> None:
    assert said_of(status) == line
