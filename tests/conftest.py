"""Options of the whole suite."""

from __future__ import annotations

import os

import pytest

# Triton kernels run on the CPU, in its interpreter. Triton reads this when it is first imported, so it is set before
# anything else; for the tests of a GPU: TRITON_INTERPRET=0 pytest -m gpu
os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-screenshots", action="store_true", help="save docs/screenshots/ anew from the end-to-end tests"
    )
