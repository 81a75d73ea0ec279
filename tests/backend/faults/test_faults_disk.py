"""A disk that is full, a file that is locked, damaged, of another version or not writable: what people then see."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from backend import cli
from backend.engine.api import EngineStatus
from backend.store.lock import LOCK_NAME
from backend.store.serving import FILE_NAME
from tests.backend.gate import GateEngine
from tests.backend.served import served, states
from tests.backend.serving import ANSWER, asked, predict_body, serving, setup_body, task
from tests.fakes import READY, FakeEngine
from tests.limits import until


def test_on_a_full_disk_people_are_served_bulk_work_waits_and_all_goes_on_when_there_is_space(tmp_path: Path) -> None:
    bulk = [task(n) for n in range(10)]
    with served(tmp_path, predict_deadline_s=95, max_slots=2) as server:
        (server.steer / "gate").write_text("0")
        with asked(server.port, predict_body(*bulk)):
            until(lambda: states(server.data_dir) == {"running": 4, "queued": 6})
        with server.full_disk():
            (server.steer / "gate").write_text("5")
            until(lambda: server.num_answered() == 4)  # as many as are in work at once: none of them can be stored
            assert server.predict(task(99)).json()["results"][0]["result"], "a person waits for this one"
            refused = server.predict(*(task(n) for n in range(20, 25)))
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
            setup = server.client.post("/setup", json=setup_body(extra_params={"language": "en"}))
            assert setup.json()["model_version"]
            assert server.client.get("/health").json()["status"] == "UP"
            assert server.json("/status.json")["projects"][0]["num_done"] == 0
            assert server.client.get("/status").status_code == 200
            server.wait_for("the projects' extra params could not be saved: File too large")
            (server.steer / "gate").unlink()
            assert server.predict(task(98)).json()["results"][0]["result"], "another person"
            assert server.num_answered() == 4 + 2, "it goes on and on computing what it cannot store"
        until(lambda: states(server.data_dir) == {"done": 10})
        assert server.num_answered() == 10 + 2
        assert all(result["result"] for result in server.predict(*bulk).json()["results"])
        assert server.output.count("the store has trouble") == 1
        assert "Traceback" not in server.output
        server.client.post("/setup", json=setup_body(extra_params={"language": "en", "top_p": 0.5}))
        assert "top_p" in (server.data_dir / "projects.json").read_text()
        leftovers = [path.name for path in server.data_dir.iterdir()]
    assert sorted(leftovers)[:4] == ["model.json", "prelabel.db", "prelabel.db-shm", "prelabel.db-wal"]
    assert len(leftovers) == 6, leftovers


def test_what_is_remembered_beside_the_store_may_fail_to_be_saved(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = FakeEngine(ANSWER, ready=False)
    with serving(tmp_path, engine) as server:
        for name in ("projects.json", "model.json"):
            (tmp_path / name).mkdir()
        engine.status = EngineStatus("ready", "ready", 1.0, READY)
        until(lambda: "the model's name could not be saved: Is a directory" in caplog.messages)
        setup = setup_body(extra_params={"extra_instructions": "Mention the collar."})
        version = server.client.post("/setup", json=setup).json()["model_version"]
        assert server.predict(task(1)).json()["results"][0]["model_version"] == version, (
            "they hold until the next start"
        )
        assert sum("could not be saved: Is a directory" in line for line in caplog.messages) == 2
    assert sorted(path.name for path in tmp_path.glob("*.json*")) == [
        "label_studio.json",
        "model.json",
        "projects.json",
    ]


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Another program writes to the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")


def test_while_another_program_holds_the_file_every_page_answers_and_nothing_is_lost(tmp_path: Path) -> None:
    engine = GateEngine(2)
    with serving(tmp_path, engine, max_slots=2) as server, ThreadPoolExecutor(2) as beside:
        with server.asked(predict_body(*(task(n) for n in range(10)))):
            until(lambda: states(tmp_path) == {"done": 2, "running": 4, "queued": 4})
        until(lambda: server.num_left == 1)
        with held(tmp_path / FILE_NAME):
            engine.open()
            person = beside.submit(server.predict, task(99))
            bulk = beside.submit(server.predict, task(20), task(21))
            for path in ("/health", "/livez", "/status.json", "/status", "/metrics"):
                assert server.client.get(path).status_code == 200
            assert person.result().json()["results"][0]["result"]
            assert bulk.result().status_code == 503
        until(lambda: states(tmp_path) == {"done": 10})
        assert all(result["result"] for result in server.predict(task(30), task(31)).json()["results"])
        assert engine.num_done == 10 + 1 + 2, "something was computed twice"


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database " * 500)


def flipped(path: Path) -> None:
    """One page in the middle is another one."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 4096 // 2 * 4096
    content[middle : middle + 4096] = bytes(range(256)) * 16
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [garbage, flipped], ids=["garbage", "a flipped page"])
def test_a_damaged_file_is_kept_aside_and_people_are_told(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    with serving(tmp_path) as server:
        server.predict(*(task(n) for n in range(50)))
    damage(tmp_path / FILE_NAME)
    content = (tmp_path / FILE_NAME).read_bytes()
    with serving(tmp_path) as server:
        kept = server.client.get("/status.json").json()["set_aside"]
        assert Path(kept).read_bytes() == content
        assert kept in server.client.get("/status").text
        assert all(result["result"] for result in server.predict(task(1), task(2)).json()["results"])


def newer(data_dir: Path) -> None:
    with serving(data_dir):
        pass
    with closing(sqlite3.connect(data_dir / FILE_NAME)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        connection.execute(f"PRAGMA user_version = {version + 1}")


def a_file(data_dir: Path) -> None:
    data_dir.write_text("")


def below_a_file(data_dir: Path) -> None:
    data_dir.parent.mkdir()
    a_file(data_dir.parent / "parent")
    data_dir.symlink_to(data_dir.parent / "parent" / "data")


def a_store_that_is_a_folder(data_dir: Path) -> None:
    (data_dir / FILE_NAME).mkdir(parents=True)


def a_lock_that_is_a_folder(data_dir: Path) -> None:
    (data_dir / LOCK_NAME).mkdir(parents=True)


@pytest.mark.usefixtures("own_logging")
@pytest.mark.parametrize(
    ("make", "code", "said"),
    [
        (newer, 1, "newer"),
        (a_file, 2, "PRELABEL_DATA_DIR="),
        (below_a_file, 2, "PRELABEL_DATA_DIR="),
        (a_store_that_is_a_folder, 1, "Set PRELABEL_DATA_DIR"),
        (a_lock_that_is_a_folder, 1, "cannot be written"),
    ],
    ids=["a newer version's", "a file", "not there and not to be made", "store not writable", "lock not writable"],
)
def test_a_data_folder_it_cannot_serve_is_refused_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], None],
    code: int,
    said: str,
) -> None:
    data_dir = tmp_path / "here" / "data"
    if make is not below_a_file:
        data_dir.parent.mkdir()
    make(data_dir)
    monkeypatch.setattr("sys.argv", ["prelabel", "serve", "--data-dir", str(data_dir), "--port", "0"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    error = capsys.readouterr().err.splitlines(keepends=True)[-1]
    assert (ended.value.code, error.count("\n")) == (code, 1), error
    assert said in error
    assert str(data_dir) in error
