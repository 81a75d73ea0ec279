"""What is asked of torch's allocator, beside what a person asks of it."""

from __future__ import annotations

import pytest

from backend.engine.allocator import use_expandable_segments


@pytest.mark.parametrize(
    ("before", "after", "is_told"),
    [
        pytest.param({}, "expandable_segments:True", False, id="nothing"),
        pytest.param({"PYTORCH_ALLOC_CONF": ""}, "expandable_segments:True", False, id="an empty setting"),
        pytest.param(
            {"PYTORCH_ALLOC_CONF": "max_split_size_mb:128"},
            "max_split_size_mb:128,expandable_segments:True",
            False,
            id="another wish",
        ),
        pytest.param(
            {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:128"},
            "max_split_size_mb:128,expandable_segments:True",
            False,
            id="another wish under the earlier name",
        ),
        pytest.param(
            {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}, None, False, id="the same wish, earlier name"
        ),
        pytest.param(
            {"PYTORCH_ALLOC_CONF": "expandable_segments:False"}, "expandable_segments:False", True, id="the opposite"
        ),
        pytest.param(
            {"PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync"}, None, True, id="an allocator that has none"
        ),
    ],
)
def test_segments_are_asked_for_unless_a_person_says_otherwise(
    before: dict[str, str], after: str | None, is_told: bool
) -> None:
    environ = dict(before)
    kept = use_expandable_segments(environ)
    assert environ.get("PYTORCH_ALLOC_CONF") == after
    assert {name: value for name, value in environ.items() if name != "PYTORCH_ALLOC_CONF"} == {
        name: value for name, value in before.items() if name != "PYTORCH_ALLOC_CONF"
    }
    [said] = [f"{name}={value} is kept" for name, value in before.items()] or [""]
    assert kept == (said if is_told else "")
