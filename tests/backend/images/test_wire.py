"""What a process that decodes says, read by one that does not believe it."""

from __future__ import annotations

import pickle

import pytest

from backend.engine.messages import Picture
from backend.errors import ImageError
from backend.images import Limits
from backend.images.decode import Decoded
from backend.images.wire import MAX_HEAD_BYTES, Asks, Comes, head, read_head
from backend.processes import Malformed

LIMITS = Limits(picture_max_pixels=1_000)


@pytest.mark.parametrize("remarks", ["", "its profile is left out", "\ud83d\0\x1b[31m\U0001f600" * 150])
def test_what_is_said_of_a_picture_comes_back(remarks: str) -> None:
    text = head(Decoded(Picture(4, 2, bytes(24)), 0.5, remarks))
    assert len(text) < MAX_HEAD_BYTES
    assert read_head(text, LIMITS) == Comes(4, 2, 0.5, remarks)


def test_why_there_is_none_and_that_it_is_large_come_back() -> None:
    said = read_head(head(ImageError("corrupt", "\U0001f600" * 10_000)), LIMITS)
    assert isinstance(said, ImageError)
    assert (said.kind, set(str(said))) == ("corrupt", {"\U0001f600"})
    assert read_head(head(Asks()), LIMITS) == Asks()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="no JSON"),
        pytest.param(b"\xff\xff", id="no text"),
        pytest.param(b"[" * 0xFFFF, id="JSON without end"),
        pytest.param(
            b'{"size": [' + b"9" * 9_999 + b', 1], "scale": 1.0, "remarks": ""}', id="a number of 9,999 digits"
        ),
        pytest.param(b'{"size": [1000000, 1000000], "scale": 1.0, "remarks": ""}', id="more pixels than any"),
        pytest.param(b'{"size": [0, 7], "scale": 1.0, "remarks": ""}', id="no pixels"),
        pytest.param(b'{"size": [-2, -2], "scale": 1.0, "remarks": ""}', id="a negative side"),
        pytest.param(b'{"size": ["2", 2], "scale": 1.0, "remarks": ""}', id="a side that is a text"),
        pytest.param(b'{"size": [2, 2, 2], "scale": 1.0, "remarks": ""}', id="three sides"),
        pytest.param(b'{"size": [2, 2], "scale": NaN, "remarks": ""}', id="a scale that is no number"),
        pytest.param(b'{"size": [2, 2], "scale": 1.5, "remarks": ""}', id="a scale above 1"),
        pytest.param(b'{"size": [2, 2], "scale": 1.0, "remarks": [1]}', id="remarks that are no text"),
        pytest.param(b'{"error": ["nonsense", "x"]}', id="a kind that there is not"),
        pytest.param(b'{"error": ["corrupt", 7]}', id="a reason that is no text"),
        pytest.param(b'{"is_large": 1e999}', id="another answer"),
        pytest.param(pickle.dumps(ImageError("corrupt", "x")), id="a pickle"),
    ],
)
def test_what_none_says_is_malformed(text: bytes) -> None:
    with pytest.raises(Malformed):
        read_head(text, LIMITS)
