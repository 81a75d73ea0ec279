"""`prelabel connect` against the fake Label Studio, as the tests run it."""

from __future__ import annotations

from typing import Any

from backend.commands.connect import connect
from tests.backend.fake_label_studio import LEGACY_KEY, FakeLabelStudio

ONLY_BOXES = (
    '<View><Image name="i" value="$i"/><RectangleLabels name="b" toName="i"><Label value="x"/></RectangleLabels></View>'
)


def run(server: FakeLabelStudio, **changes: Any) -> int:
    options: dict[str, Any] = {
        "label_studio": server.url,
        "api_key": LEGACY_KEY,
        "project": None,
        "create": "Shoes",
        "backend_url": server.url,
    }
    return connect(**options | changes)
