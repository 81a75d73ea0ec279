from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backend.store import WorkState
from tests.backend.store.given import accepted, opened, states, tasks
from tests.limits import RUN_S

WORKER = """
import sys
from pathlib import Path
from backend.store import StoredAnswer
from tests.backend.store.given import accepted, opened, tasks
with opened(Path(sys.argv[1])) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    accepted(store, tasks(100))
    while rows := store.claim(2, 2.0):
        for row in rows:
            store.finish(row.id, StoredAnswer(str(row.task_id), "{}"), None, False, 3.0)
            print(row.task_id, flush=True)
"""


@contextmanager
def worker(path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_two_processes_on_one_file_share_the_work_and_do_each_task_once(path: Path) -> None:
    opened(path).close()
    claimed: list[int] = []
    with worker(path) as first, worker(path) as second:
        for process in (first, second):
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
        for process in (first, second):
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in (first, second):
            output, errors = process.communicate(timeout=RUN_S)
            assert process.returncode == 0, errors
            claimed += [int(line) for line in output.split()]
    assert sorted(claimed) == list(range(1, 101))
    with opened(path) as store:
        assert store.set_aside is None
        assert states(store) == {WorkState.DONE: 100}


def test_one_process_sees_what_another_has_committed(path: Path) -> None:
    with opened(path) as store, opened(path) as beside:
        accepted(store, tasks(2))
        assert beside.summary()[0].num_tasks == 2
        assert len(beside.claim(2, 2.0)) == 2
        assert store.claim(2, 2.0) == []
