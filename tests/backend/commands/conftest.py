"""What the tests of the commands share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.backend.fake_label_studio import FakeLabelStudio, fake_label_studio


@pytest.fixture
def server() -> Iterator[FakeLabelStudio]:
    with fake_label_studio() as fake:
        yield fake
