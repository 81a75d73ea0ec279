"""What is looked at before any weight: the card's memory, the machine's own, and the disks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from model_loader.cards import Card
from model_loader.checkpoint import read_config
from model_loader.checks import check_fits, check_host_memory
from model_loader.disks import Disk, rooms
from model_loader.errors import MachineUnfit, ModelTooLarge
from model_loader.folders import download_place
from model_loader.geometry import DEFAULT_MODEL, geometry_from_config
from model_loader.host import available_bytes, free_pids, judge_host_memory, num_cpus
from model_loader.memory import GIB, plan_memory
from model_loader.sources import find_config


@pytest.fixture
def config(folder: Path) -> Mapping[str, Any]:
    """Of a model of some megabytes."""
    return read_config(folder)


def test_a_model_larger_than_the_card_or_than_what_is_free_of_it_is_refused(config: Mapping[str, Any]) -> None:
    check_fits(config, card=Card("Some Card", 24.0, 23.5, (8, 9)))
    with pytest.raises(ModelTooLarge, match=r"PRELABEL_VRAM_GIB allows 0\.5 of the card's 24\.0 GiB"):
        check_fits(config, card=Card("Some Card", 24.0, 23.5, (8, 9)), vram_gib=0.5)
    with pytest.raises(ModelTooLarge, match=r"other programs leave 0\.5 of the card's 24\.0 GiB"):
        check_fits(config, card=Card("Some Card", 24.0, 0.5, (8, 9)))


def test_what_other_programs_take_of_the_card_is_told_where_it_costs_much(caplog: pytest.LogCaptureFixture) -> None:
    check_fits(find_config(DEFAULT_MODEL), card=Card("Some Card", 24.0, 20.0, (8, 9)))
    assert "Other programs leave 20.0 of the card's 24.0 GiB" in caplog.text


BIG = geometry_from_config(find_config(DEFAULT_MODEL))


@pytest.mark.parametrize(
    ("gib", "on_card", "code"),
    [
        (None, True, None),
        (5.0, True, None),
        (3.0, True, "host_too_small"),
        (24.0, False, None),
        (16.0, False, "host_too_small_for_cpu"),  # a CPU keeps 17.9 GiB of weights
    ],
)
def test_the_machines_own_memory_is_judged_by_where_the_weights_stay(
    gib: float | None, on_card: bool, code: str | None
) -> None:
    found = judge_host_memory(BIG, None if gib is None else int(gib * GIB), on_card=on_card)
    assert (found and found.code) == code


@pytest.mark.parametrize(
    ("model", "on_card", "least_gib"),
    [
        ("Qwen/Qwen3-VL-2B-Instruct", True, 3.2),  # CUDA's 2 GiB, and the embedding in 16 bit, twice
        ("Qwen/Qwen3-VL-8B-Instruct", True, 4.3),
        ("Qwen/Qwen3-VL-32B-Instruct", True, 4.9),
        ("Qwen/Qwen3-VL-8B-Instruct", False, 9.3),
    ],
)
def test_a_dense_model_takes_of_the_machines_memory_its_largest_matrix(
    model: str, on_card: bool, least_gib: float
) -> None:
    geometry = geometry_from_config(find_config(model))

    def refused(gib: float) -> bool:
        found = judge_host_memory(geometry, int(gib * GIB), on_card=on_card)
        return found is not None and found.refuses

    assert refused(least_gib - 0.1)
    assert not refused(least_gib + 0.1)


def test_too_little_memory_is_refused_before_any_weight() -> None:
    config = find_config(DEFAULT_MODEL)
    with pytest.raises(MachineUnfit, match=r"at least 3\.5 GiB of this machine's own memory .* and 2\.0 GiB are free"):
        check_host_memory(config, on_card=True, available=lambda: 2 * GIB)
    check_host_memory(config, on_card=True, available=lambda: 5 * GIB)


MEMINFO = f"MemTotal:       65536000 kB\nMemFree:  1000 kB\nMemAvailable:   {32 * 2**20} kB\n"
NO_LIMIT = str(2**63 - 4096)


@pytest.mark.parametrize(
    ("files", "gib"),
    [
        pytest.param({}, None, id="no Linux"),
        pytest.param({"proc/meminfo": MEMINFO}, 32, id="no container"),
        pytest.param({"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n",
                      "sys/fs/cgroup/memory.current": "4096\n"}, 32, id="a container without a limit"),
        pytest.param({"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/\n",
                      "sys/fs/cgroup/memory.max": f"{8 * GIB}\n", "sys/fs/cgroup/memory.current": f"{5 * GIB}\n",
                      "sys/fs/cgroup/memory.stat": f"anon 1\nfile 2\ninactive_file {2 * GIB}\n"}, 5,
                     id="a container with a limit, files of which are cached"),
        pytest.param({"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/\n",
                      "sys/fs/cgroup/memory.max": f"{16 * GIB}\n", "sys/fs/cgroup/memory.current": f"{16 * GIB}\n",
                      "sys/fs/cgroup/memory.stat":
                          f"inactive_anon {GIB}\nactive_anon 0\ninactive_file {2 * GIB}\nactive_file {13 * GIB}\n"}, 15,
                     id="a container that a model was loaded in before, whose files were read twice"),
        pytest.param({"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/system.slice/prelabel.service\n",
                      "sys/fs/cgroup/system.slice/memory.max": f"{4 * GIB}\n",
                      "sys/fs/cgroup/system.slice/memory.current": f"{GIB}\n",
                      "sys/fs/cgroup/system.slice/prelabel.service/memory.max": "max\n",
                      "sys/fs/cgroup/system.slice/prelabel.service/memory.current": f"{GIB}\n"}, 3,
                     id="a limit of a group further up"),
        pytest.param({"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/system.slice/prelabel.service\n",
                      "sys/fs/cgroup/system.slice/prelabel.service/memory.max": "max\n",
                      "sys/fs/cgroup/system.slice/prelabel.service/memory.high": f"{6 * GIB}\n",
                      "sys/fs/cgroup/system.slice/prelabel.service/memory.current": f"{GIB}\n"}, 5,
                     id="only a limit from which on it is slowed, as MemoryHigh"),
        pytest.param({"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/\n",
                      "sys/fs/cgroup/memory.max": f"{4 * GIB}\n", "sys/fs/cgroup/memory.high": f"{6 * GIB}\n",
                      "sys/fs/cgroup/memory.current": f"{GIB}\n"}, 3, id="both limits"),
        pytest.param({"proc/meminfo": MEMINFO, "proc/self/cgroup": "5:cpu:/\n4:memory:/docker/abc\n0::/\n",
                      "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{6 * GIB}\n",
                      "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{2 * GIB}\n",
                      "sys/fs/cgroup/memory/memory.stat": f"cache 1\nactive_file 9\ntotal_inactive_file {GIB}\n"}, 5,
                     id="the first version's files, seen from a container"),
        pytest.param({"proc/meminfo": MEMINFO, "proc/self/cgroup": "4:memory:/\n",
                      "sys/fs/cgroup/memory/memory.limit_in_bytes": NO_LIMIT,
                      "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}\n"}, 32,
                     id="the first version's files without a limit"),
    ],
)  # fmt: skip
def test_free_memory_is_that_of_the_machine_and_of_its_container(
    tmp_path: Path, files: dict[str, str], gib: int | None
) -> None:
    write(tmp_path, files)
    assert available_bytes(tmp_path) == (None if gib is None else gib * GIB)


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/pids.max": "max\n", "sys/fs/cgroup/pids.current": "9\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/pids.max": "100\n", "sys/fs/cgroup/pids.current": "9\n"}, 91),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/pids.max": "100\n", "sys/fs/cgroup/a/pids.current": "30\n",
                "sys/fs/cgroup/a/b/pids.max": "90\n", "sys/fs/cgroup/a/b/pids.current": "9\n",
            },
            70,
        ),
        (
            {
                "proc/self/cgroup": "8:pids:/docker/abc\n4:memory:/\n",
                "sys/fs/cgroup/pids/pids.max": "64\n", "sys/fs/cgroup/pids/pids.current": "4\n",
            },
            60,
        ),
    ],
    ids=["no Linux", "no limit", "max", "a container's", "of a group further up", "the first version's files"],
)  # fmt: skip
def test_what_limits_threads_is_found(tmp_path: Path, files: dict[str, str], free: int | None) -> None:
    write(tmp_path, files)
    assert free_pids(tmp_path) == free


HERE = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({}, HERE),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, HERE),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "99900000 100000\n"}, HERE),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "100000 100000\n",
          "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, 1),
        ({"proc/self/cgroup": "8:cpu,cpuacct:/docker/abc\n", "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "100000\n",
          "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 1),
        ({"proc/self/cgroup": "8:cpu,cpuacct:/\n", "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
          "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, HERE),
    ],
    ids=["no container", "no limit", "half of one", "one", "more than there are", "of a group further up",
         "the first version's files", "the first version's files without a limit"],
)  # fmt: skip
def test_only_the_processors_that_a_container_is_given_count(tmp_path: Path, files: dict[str, str], cpus: int) -> None:
    write(tmp_path, files)
    assert num_cpus(tmp_path) == cpus


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.mark.parametrize(
    ("free_gib", "code"), [(100, None), (75, "disk_tight"), (60, "disk_tight"), (50, "disk_too_small")]
)
def test_a_disk_takes_the_download_and_the_copy_or_only_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_gib: int, code: str | None
) -> None:
    disk = Disk(tmp_path, 1, free_gib * GIB)
    monkeypatch.setenv("HUGGINGFACE_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    [room] = rooms(DEFAULT_MODEL, None, plan_memory(BIG), disk, disk)
    found = room.trouble()
    assert found is None or "with HUGGINGFACE_HUB_CACHE (downloads)" in str(found)
    assert (found and found.code) == code
    assert found is None or found.refuses is (code == "disk_too_small")


def test_downloads_lie_where_each_hub_puts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", "/big/hf")
    monkeypatch.setenv("MODELSCOPE_CACHE", "/big/ms")
    assert download_place(DEFAULT_MODEL) == ("HF_HOME", Path("/big/hf"))
    assert download_place(f"modelscope:{DEFAULT_MODEL}") == ("MODELSCOPE_CACHE", Path("/big/ms"))
    monkeypatch.setenv("HF_HUB_CACHE", "/big/hub")
    assert download_place(DEFAULT_MODEL) == ("HF_HUB_CACHE", Path("/big/hub"))
