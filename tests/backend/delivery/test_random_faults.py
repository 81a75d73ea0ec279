"""Whatever goes wrong, in whatever order: in the end each task has exactly one prediction."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.backend.delivery.fake_server import FakeServer, fake_server
from tests.backend.delivery.rig import VERSION, Rig
from tests.limits import examples

# of the "slow" faults each costs some time; commit_later_reset is the same to us
READ = ("reset", "401", "403", "429", "500", "502", "503", "301", "404", "200 html")
IMPORT = (*READ, "400", "413", "commit_reset", "commit_later_reset", "commit_500", "commit_502", "commit_wrong")


@pytest.fixture(scope="module")
def shared() -> Iterator[FakeServer]:
    with fake_server() as fake:
        yield fake


@settings(max_examples=examples(10, 500), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    reads=st.lists(st.sampled_from(READ), max_size=6),
    imports=st.lists(st.sampled_from(IMPORT), max_size=6),
    in_replies=st.sets(st.integers(0, 11)),
    batch=st.sampled_from([1, 3, 200]),
    restarts=st.sets(st.integers(0, 10), max_size=3),
)
def test_each_task_ends_with_exactly_one_prediction(
    shared: FakeServer, reads: list[str], imports: list[str], in_replies: set[int], batch: int, restarts: set[int]
) -> None:
    shared.rows.clear()
    shared.faults.clear()
    rig = Rig(shared, batch=batch)
    for number in (1, 2):
        uid = shared.add_project(number, 6)
        for i, task in enumerate(sorted(shared.tasks[number])):
            rig.store.add(uid, [task], state="returned" if i + 6 * (number - 1) in in_replies else "done")
    # Label Studio saved every second of the replies
    shared.store(1, [{"task": w.task_id, "model_version": VERSION} for w in rig.store.open[::2] if w.state != "done"])
    shared.fail("read", *reads)
    shared.fail("import", *imports)
    for number in range(80):
        if not rig.store.open:
            break
        if number in restarts:
            rig.close()
            rig.new_delivery()
        rig.run(advance_s=700.0)
    rig.close()
    assert not rig.store.open, rig.delivery.status
    assert set(rig.store.states().values()) == {"delivered"}
    assert shared.stored(VERSION) == dict.fromkeys(shared.tasks[1] | shared.tasks[2], 1)
