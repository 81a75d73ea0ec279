"""`prelabel serve` told to stop in the middle of its work, killed, and stuck: what clients get, and what is kept."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

from backend.keeping import open_store
from tests.backend.served import Served, run_program, served, states
from tests.backend.serving import task
from tests.backend.test_background_process import wait_ended
from tests.limits import until

NUM_TASKS = 300
TASKS = [task(n) for n in range(NUM_TASKS)]
INLINE = task(1_000, "data:image/png;base64,AAAA")
"""Not kept in the store: it can only be answered now."""


def ask_in_background(server: Served, replies: list[Any], *tasks: dict[str, Any]) -> threading.Thread:
    """The reply, or what went wrong, is put into `replies`."""

    def ask() -> None:
        try:
            replies.append(server.predict(*tasks))
        except Exception as error:
            replies.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    return asking


def test_a_stop_answers_with_what_is_done_and_the_next_start_does_the_rest_once(tmp_path: Path) -> None:
    replies: list[Any] = []
    refused: list[Any] = []
    with served(tmp_path, stop_s=4) as server:
        (server.steer / "gate").write_text("20")
        asking = ask_in_background(server, replies, *TASKS)
        until(lambda: states(server.data_dir).get("done") == 20)
        beside = ask_in_background(server, refused, INLINE)
        until(lambda: server.num_running() == 128 + 1)
        engine = server.children()
        server.process.send_signal(signal.SIGTERM)
        until(lambda: not server.is_listening())
        asking.join()
        beside.join()
        assert server.end() == 0
        assert "Traceback" not in server.output
        for pid in engine:
            wait_ended(pid)
    results = replies[0].json()["results"]
    assert ([bool(result) for result in results].count(True), len(results)) == (20, NUM_TASKS)
    assert (refused[0].status_code, bool(refused[0].headers["retry-after"])) == (503, True)
    assert states(tmp_path / "data") == {"returned": 20, "queued": NUM_TASKS - 20}

    (tmp_path / "steer" / "gate").unlink()
    with served(tmp_path, stop_s=4) as server:
        until(lambda: states(server.data_dir) == {"returned": 20, "done": NUM_TASKS - 20})
        assert server.num_answered() == NUM_TASKS
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 0


def test_a_kill_ends_the_engine_too_and_the_next_start_takes_its_work_up_again(tmp_path: Path) -> None:
    replies: list[Any] = []
    with served(tmp_path) as server:
        (server.steer / "gate").write_text("0")
        asking = ask_in_background(server, replies, *TASKS)
        until(lambda: states(server.data_dir).get("running", 0) == 128)
        children = server.children()
        assert len(children) >= 2, "the engine and the process that reads large bodies"
        server.kill()
        asking.join()
        for pid in children:
            wait_ended(pid)
    assert isinstance(replies[0], Exception)
    assert states(tmp_path / "data") == {"queued": NUM_TASKS - 128, "running": 128}
    with open_store(tmp_path / "data", 0) as store:
        assert states(tmp_path / "data") == {"queued": NUM_TASKS}
        assert {work.attempts for work in store.claim(1, 0)} == {2}


STUCK = """
import asyncio, sys, time
from concurrent.futures import ThreadPoolExecutor
from backend.commands import serve
from backend.settings import load_settings
from tests.backend.serving import ANSWER
from tests.fakes import FakeEngine, FakeImages

class Images(FakeImages):
    async def aclose(self):
        ThreadPoolExecutor(1).submit(time.sleep, 60)  # a look-up of a name that never ends
        print("stuck", flush=True)
        await asyncio.to_thread(time.sleep, 60)

serve.LATE_S = 0.5
serve.build_engine = lambda settings: FakeEngine(ANSWER)
serve.build_images = lambda settings: Images()
sys.exit(serve.serve(load_settings({"data_dir": sys.argv[1], "port": 0, "stop_s": 2})))
"""


def test_threads_that_never_end_do_not_keep_it_from_ending(tmp_path: Path) -> None:
    with run_program(STUCK, str(tmp_path)) as server:
        server.wait_for("Model loaded successfully!")
        os.kill(server.process.pid, signal.SIGTERM)
        server.wait_for("stuck")
        assert server.process.wait(30) == 0
    assert "something hangs at the end" in server.output
