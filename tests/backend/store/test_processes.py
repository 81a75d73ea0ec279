from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from backend.store import WorkState
from tests.backend.store.given import accepted, opened, tasks

WORKER = """
import sys
from pathlib import Path
from backend.store import Store, StoredAnswer
from tests.backend.store.given import accepted, tasks
with Store.open(Path(sys.argv[1]), 0.0) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    accepted(store, tasks(150))
    while rows := store.claim(2, 2.0):
        for row in rows:
            store.finish(row.id, StoredAnswer(str(row.task_id), "{}"), None, False, 3.0)
            print(row.task_id, flush=True)
"""


def test_two_processes_on_one_file_share_the_work_and_do_each_task_once(tmp_path: Path) -> None:
    path = tmp_path / "prelabel.db"
    opened(path).close()
    command = [sys.executable, "-c", WORKER, str(path)]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    claimed: list[list[int]] = []
    try:
        for worker in workers:
            assert worker.stdout
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin
            worker.stdin.write("go\n")
            worker.stdin.flush()
        for worker in workers:
            output, errors = worker.communicate(timeout=60)
            assert worker.returncode == 0, errors
            claimed.append([int(line) for line in output.split()])
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    assert sorted(claimed[0] + claimed[1]) == list(range(1, 151))
    with opened(path) as store:
        assert store.set_aside is None
        assert {row.state for row in accepted(store, tasks(150))} == {WorkState.DONE}


def test_one_process_sees_what_another_has_committed(tmp_path: Path) -> None:
    with opened(tmp_path / "prelabel.db") as store, opened(tmp_path / "prelabel.db") as beside:
        accepted(store, tasks(2))
        assert beside.summary()[0].num_tasks == 2
        assert len(beside.claim(2, 2.0)) == 2
        assert store.claim(2, 2.0) == []
