"""`prelabel serve` told to stop in the middle of its work, and stuck: what clients get, and what is kept."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.backend.commands.test_background_process import wait_ended
from tests.backend.served import run_program, served, states
from tests.backend.serving import task
from tests.limits import until

NUM_TASKS = 60
STOP_S = 20
TASKS = [task(n) for n in range(NUM_TASKS)]
INLINE = task(1_000, "data:image/png;base64,AAAA")
"""Not kept in the store: it can only be answered now."""


def test_a_stop_answers_with_what_is_done_and_the_next_start_does_the_rest_once(tmp_path: Path) -> None:
    with served(tmp_path, stop_s=STOP_S, predict_deadline_s=95, max_slots=4) as server, ThreadPoolExecutor(2) as beside:
        (server.steer / "gate").write_text("20")
        asking = beside.submit(server.predict, *TASKS)
        until(lambda: states(server.data_dir).get("done") == 20)
        refusal = beside.submit(server.predict, INLINE)
        until(lambda: server.num_running() == 2 * 4 + 1)
        engine = server.children()
        for pid in engine:  # a stop may reach the whole group
            os.kill(pid, signal.SIGTERM)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: not server.is_listening())
        reply, refused = asking.result(), refusal.result()
        assert server.end() == 0
        assert "Traceback" not in server.output
        for pid in engine:
            wait_ended(pid)
    num_told = sum(bool(result) for result in reply.json().get("results", []))
    assert (reply.status_code, num_told) in ((200, 20), (503, 0)), "503: it had no time left, and nothing is lost"
    assert (refused.status_code, bool(refused.headers["retry-after"])) == (503, True)
    left = states(tmp_path / "data")
    assert (left.get("returned", 0), sum(left.values())) == (num_told, NUM_TASKS)

    (tmp_path / "steer" / "gate").unlink()
    with served(tmp_path, stop_s=STOP_S) as server:
        until(lambda: states(server.data_dir).get("done") == NUM_TASKS - num_told)
        assert server.num_answered() == NUM_TASKS
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 0


STUCK = """
import asyncio, sys, time
from concurrent.futures import ThreadPoolExecutor
from backend.commands import serve
from backend.settings import load_settings
from tests.backend.serving import ANSWER
from tests.fakes import FakeEngine, FakeImages

class Images(FakeImages):
    async def aclose(self):
        ThreadPoolExecutor(1).submit(time.sleep, 10_000)  # a look-up of a name that never ends
        print("stuck", flush=True)
        await asyncio.to_thread(time.sleep, 10_000)

settings = load_settings({"data_dir": sys.argv[1], "port": 0, "stop_s": 2})
sys.exit(serve.serve(settings, lambda settings: FakeEngine(ANSWER), lambda settings: Images()))
"""


def test_threads_that_never_end_do_not_keep_it_from_ending(tmp_path: Path) -> None:
    with run_program(STUCK, str(tmp_path)) as server:
        server.wait_for("Model loaded successfully!")
        os.kill(server.process.pid, signal.SIGTERM)
        server.wait_for("stuck")
        assert server.end() == 0
    assert "something hangs at the end" in server.output
