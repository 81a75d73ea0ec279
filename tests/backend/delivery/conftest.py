from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.backend.delivery.fake_server import FakeServer, fake_server
from tests.backend.delivery.rig import Rig


@pytest.fixture
def label_studio() -> Iterator[FakeServer]:
    with fake_server() as fake:
        yield fake
    assert fake.backend_asked == 0, "a reading call made Label Studio ask its ML backend for predictions"
    assert all(path.endswith("/import/predictions") for path in fake.changes), "something else was changed"


@pytest.fixture
def rig(label_studio: FakeServer) -> Iterator[Rig]:
    made = Rig(label_studio)
    yield made
    made.close()
