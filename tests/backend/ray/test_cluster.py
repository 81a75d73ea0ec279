"""How a cluster's machines are dealt out to workers, and what is refused before a Ray is joined. No Ray runs."""

from __future__ import annotations

import pickle
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from backend.errors import UsageError
from backend.ray.cluster import Node, WorkerPlan, check_free, connected, on_any_machine, plan_workers, require_ray
from backend.settings import load_settings


@pytest.mark.parametrize(
    ("machines", "asked_for", "device", "plan"),
    [
        ([Node(16, 2), Node(16, 1)], None, "auto", WorkerPlan(3, 1, 1)),
        ([Node(16, 2), Node(16, 1)], 2, "auto", WorkerPlan(2, 1, 1)),
        ([Node(1, 4)], None, "cuda", WorkerPlan(4, 0, 1)),
        ([Node(16, 2)], None, "cpu", WorkerPlan(1, 16, 0)),
        ([Node(8, 0), Node(8, 0)], None, "auto", WorkerPlan(2, 8, 0)),
        ([Node(5, 0), Node(3, 0)], 3, "auto", WorkerPlan(3, 2, 0)),
        ([Node(6, 0), Node(2, 0)], 2, "auto", WorkerPlan(2, 3, 0)),
        ([Node(2, 0), Node(0, 0)], None, "auto", WorkerPlan(1, 2, 0)),
    ],
    ids=[
        "one a GPU", "fewer than GPUs", "fewer CPUs than GPUs", "a GPU that is not wanted", "one a machine",
        "uneven machines", "two on the larger one", "a head that lends nothing",
    ],
)  # fmt: skip
def test_workers_are_dealt_out(machines: list[Node], asked_for: int | None, device: str, plan: WorkerPlan) -> None:
    assert plan_workers(machines, asked_for, load_settings({"device": device})) == plan


@pytest.mark.parametrize(
    ("machines", "asked_for", "device", "message"),
    [
        ([Node(16, 2)], 3, "auto", "--workers 3: the cluster has 2 GPUs"),
        ([Node(2, 0)], 3, "auto", "--workers 3: the cluster has 2 CPUs"),
        ([Node(2, 0)], None, "cuda", "PRELABEL_DEVICE=cuda: the Ray cluster has no GPU"),
        ([Node(0, 0)], None, "auto", "the cluster has 0 CPUs"),
    ],
    ids=["GPUs", "CPUs", "no GPU", "nothing"],
)
def test_more_workers_than_fit_are_refused(
    machines: list[Node], asked_for: int | None, device: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        plan_workers(machines, asked_for, load_settings({"device": device}))


def test_settings_are_made_to_mean_the_same_on_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    given = {"model": "model", "data_dir": Path("data"), "device": "cuda:1", "label_studio_api_key": "geheim1234"}
    there = pickle.loads(pickle.dumps(on_any_machine(load_settings(given))))
    assert (there.model, there.data_dir, there.device) == (str(tmp_path / "model"), tmp_path / "data", "cuda")
    assert there.label_studio_api_key.get_secret_value() == "geheim1234"
    assert on_any_machine(load_settings({"model": "garments"})).model == "garments"


def test_without_ray_the_command_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(UsageError, match=r"the extra `ray`: deploy/README.md"):
        require_ray()


def test_an_address_where_nobody_listens_is_refused_without_waiting_for_ray() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    refused = f"no Ray to join at 127.0.0.1:{port}.*Connection refused"
    with pytest.raises(UsageError, match=refused), connected(f"127.0.0.1:{port}", 1):
        pass


@pytest.mark.parametrize("address", ["ray://127.0.0.1:10001", "here", "here:there"])
def test_an_address_of_another_kind_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="machine"), connected(address, 1):
        pass


@pytest.mark.parametrize("raised", [Exception("raylet\nfailed"), RuntimeError("x"), AssertionError(), SystemExit(1)])
def test_a_ray_that_cannot_be_started_is_one_line_and_leaves_no_process(raised: BaseException) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def start(address: str | None, num_workers: int) -> None:
        started.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
        raise raised

    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as neighbour:
        with (
            pytest.raises(UsageError if isinstance(raised, Exception) else SystemExit) as told,
            connected(None, 1, start),
        ):
            pass
        assert neighbour.poll() is None
    if isinstance(raised, Exception):
        assert str(told.value).startswith("Ray cannot be started on this machine: ")
        assert "\n" not in str(told.value)
    assert not Path(f"/proc/{started[0].pid}").exists()
    started[0].communicate()


@pytest.mark.parametrize(
    ("plan", "free", "message"),
    [
        (WorkerPlan(2, 2, 0), {"memory": 1e9}, "each worker needs 2 CPU, and 0 are free in the cluster"),
        (WorkerPlan(2, 1, 1), {"CPU": 8.0, "GPU": 0.5}, "each worker needs 1 GPU, and 0.5 are free in the cluster"),
    ],
    ids=["CPUs", "GPUs"],
)
def test_a_cluster_that_others_hold_is_told_of(plan: WorkerPlan, free: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=f"{message}: other programs hold the rest"):
        check_free(plan, lambda: free, patience_s=0)


def test_what_others_are_just_giving_back_is_waited_for() -> None:
    free = [{"CPU": 2.0}, {"CPU": 0.0}]
    check_free(WorkerPlan(2, 2, 0), lambda: free.pop())
    assert not free
