"""Options of the whole suite: which tests run beside each other, how long one may take, and what a test leaves behind.

With pytest-xdist (`make test`) the tests of one file run in order in one worker. Everything in tests/end_to_end, which
starts a real Label Studio, a browser or a Ray, is one group: those servers never meet, and begin first.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import warnings
from collections.abc import Generator, Iterator

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests import left_behind
from tests.limits import SOAK, TEST_S
from tests.ray_cluster import PICTURES, Cluster, ray_cluster

# Triton kernels run on the CPU, in its interpreter. Triton reads this when it is first imported, so it is set before
# anything else; for the tests of a GPU: TRITON_INTERPRET=0 pytest -m gpu
os.environ.setdefault("TRITON_INTERPRET", "1")
# The models here are small: more threads each gain nothing, and those of several processes hinder each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that starts the tests in the background has them ignore SIGINT, and every process they start inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

END_TO_END = "tests/end_to_end/"
SLOW = ("tests/backend/faults/", "tests/benchmarks/", "tests/training/")
"""Folders whose tests are all marked slow; elsewhere single ones are."""
_FAILED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-screenshots", action="store_true", help="save docs/screenshots/ anew from the end-to-end tests"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(END_TO_END))
    for item in items:
        if item.nodeid.startswith(END_TO_END):
            item.add_marker(pytest.mark.end_to_end)
        if item.nodeid.startswith(SLOW):
            item.add_marker(pytest.mark.slow)
        item.add_marker(pytest.mark.timeout(10 * TEST_S if SOAK else TEST_S))


class Groups(LoadScopeScheduling):
    """What runs in one worker, in order: a file, or all of tests/end_to_end."""

    def _split_scope(self, nodeid: str) -> str:
        return END_TO_END if nodeid.startswith(END_TO_END) else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)  # pytest runs without xdist, too
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Groups:
    return Groups(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
    # xdist sends what was captured as UTF-8, and some tests log text that is none
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """What a failed test leaves open is closed here, in silence: else its warning would fail the next test."""
    try:
        return (yield)
    finally:
        if item.stash.get(_FAILED, False):
            for name in ("last_exc", "last_type", "last_value", "last_traceback"):
                if hasattr(sys, name):
                    delattr(sys, name)
            told, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                gc.collect()
            sys.unraisablehook = told


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    """A process that a test started and left running is ended, and fails the test, not its neighbours."""
    before = left_behind.children()
    yield
    left = left_behind.end(left_behind.left_since(before))
    if left:
        pytest.fail("it left processes running:\n" + "\n".join(left))


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
