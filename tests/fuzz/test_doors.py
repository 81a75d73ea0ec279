"""Inputs that are nearly right, at every door: each is taken or refused by name, and soon."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.doors import doors
from tests.fuzz.trial import tried
from tests.limits import examples


@pytest.mark.parametrize("name", doors())
def test_an_input_that_is_nearly_right_is_taken_or_refused_by_name(name: str, tmp_path: Path) -> None:
    faults = [fault for seed in range(examples(40, 20_000)) if (fault := tried(name, seed, tmp_path).fault)]

    assert not faults, "\n".join(faults[:10])
