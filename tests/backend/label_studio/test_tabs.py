"""Tabs of the Data Manager, which people make with whatever they send as its data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from backend.errors import LabelStudioError
from backend.label_studio.client import MAX_REPLY_BYTES, LabelStudioClient
from backend.label_studio.tabs import arrange_tabs, arrange_threshold_tabs, is_review_tab, sort_doubt_tab
from tests.backend.fake_label_studio import LEGACY_KEY, FakeLabelStudio, fake_label_studio

ODD: dict[str, Any] = {
    "a list": [1], "a text": "x", "a number": 5, "nothing": None, "a title of another kind": {"title": ["a"]},
    "filters of another kind": {"filters": "x"}, "a list of filters": {"filters": [1]},
    "items of another kind": {"filters": {"items": "x"}}, "items that are none": {"filters": {"items": [1, None, []]}},
    "an item of lists": {"filters": {"items": [{"filter": [[]], "operator": {}}]}}, "an ordering": {"ordering": 5},
}  # fmt: skip


@pytest.fixture
def server() -> Iterator[FakeLabelStudio]:
    with fake_label_studio() as fake:
        fake.add_project("Shoes", "<View/>")
        yield fake


@pytest.fixture
def client(server: FakeLabelStudio) -> Iterator[LabelStudioClient]:
    with LabelStudioClient(server.url, LEGACY_KEY) as opened:
        yield opened


@pytest.mark.parametrize("data", ODD.values(), ids=ODD)
def test_a_tab_of_any_data_is_somebody_s_own_and_stays(
    server: FakeLabelStudio, client: LabelStudioClient, data: Any
) -> None:
    server.views[7] = {"id": 7, "data": data}
    made = arrange_tabs(client, 1, "")
    assert made.doubt in server.views
    assert arrange_threshold_tabs(client, 1, 0.5, ["Passes"], ["Rest"]) == ("Passes", "Rest")
    assert sort_doubt_tab(client, 1).doubt == made.doubt
    assert not is_review_tab(client, 7)
    assert server.views[7] == {"id": 7, "data": data}


@pytest.mark.parametrize("said", ["x" * 5, " " * MAX_REPLY_BYTES + "[]", "[" * 100_000])
def test_a_reply_that_cannot_be_read_ends_in_a_sentence_and_costs_no_more_than_it_may(
    server: FakeLabelStudio, client: LabelStudioClient, said: str
) -> None:
    server.refusals["GET", "/api/dm/views"] = 200, said
    with pytest.raises(LabelStudioError, match=r"does not answer like|larger than 8 MiB|nested too deeply"):
        arrange_tabs(client, 1, "")
