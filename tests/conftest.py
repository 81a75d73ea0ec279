"""Options of the whole suite."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.ray_cluster import PICTURES, Cluster, ray_cluster

# Triton kernels run on the CPU, in its interpreter. Triton reads this when it is first imported, so it is set before
# anything else; for the tests of a GPU: TRITON_INTERPRET=0 pytest -m gpu
os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-screenshots", action="store_true", help="save docs/screenshots/ anew from the end-to-end tests"
    )


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One for the whole suite: a Ray takes many seconds to start."""
    data = tmp_path_factory.mktemp("ray-data")
    settings = {
        "PRELABEL_MODEL": "garments",
        "PRELABEL_DATA_DIR": str(data),
        "PRELABEL_ALLOW_NO_AUTH": "true",
        "PRELABEL_LOCAL_FILES_ROOT": str(PICTURES),
        "PRELABEL_LANGUAGE": "en",
    }
    with ray_cluster(settings) as running:
        yield running
