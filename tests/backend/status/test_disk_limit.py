"""A disk that does not answer is named, and nobody waits for it for ever."""

from __future__ import annotations

import threading

import pytest

from backend.engine.options import EngineLimits
from backend.errors import SettingsError
from backend.status.disk_limit import within_limit

SOON = EngineLimits(stall_s=0.01, start_s=0.02)


def test_what_a_look_finds_is_returned_and_what_it_raises_is_raised() -> None:
    def refuse() -> None:
        raise SettingsError("PRELABEL_DATA_DIR cannot be written")

    assert within_limit(lambda: 7) == 7
    with pytest.raises(SettingsError, match="PRELABEL_DATA_DIR cannot be written"):
        within_limit(refuse)


def test_a_disk_that_never_answers_is_named_by_its_settings_and_ends_the_look(caplog: pytest.LogCaptureFixture) -> None:
    end = threading.Event()
    try:
        with pytest.raises(SettingsError, match=r"a disk does not answer, that of PRELABEL_QUANTISED_DIR"):
            within_limit(end.wait, SOON)
    finally:
        end.set()
    assert "Looking at the folders (no disk has answered for" in caplog.text


def test_one_that_answers_late_is_named_and_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    def late() -> str:
        while "no disk has answered for" not in caplog.text:
            end.wait(0.01)
        return "here it is"

    end = threading.Event()
    assert within_limit(late, EngineLimits(stall_s=0.01)) == "here it is"
