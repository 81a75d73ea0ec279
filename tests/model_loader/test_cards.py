"""A card that can be used, none at all, and every way between: which of them a machine is, and what is said of it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from model_loader.cards import Card, Seen, Signs, ask_torch, find_card, held_card, read_signs, settle, why_no_card
from model_loader.memory import GIB
from model_loader.troubles import Trouble, trouble
from tests.limits import RUN_S

CUDA = Signs(torch="2.13.0", cuda="13.0")
WORKING = replace(CUDA, driver="580.95.05", library="580.95.05", on_bus=True, device_files=True)
TOO_OLD = "The NVIDIA driver on your system is too old (found version 12040). Please update your GPU driver by ..."


@pytest.mark.parametrize(
    ("signs", "said", "code", "told"),
    [
        (Signs(torch="2.13.0+cpu"), "Torch not compiled with CUDA enabled", "card_none", ""),
        (CUDA, "Found no NVIDIA driver on your system. Please check ...", "card_none", "no CUDA card"),
        (Signs(torch="2.13.0+cpu", driver="580.95.05"), "Torch not compiled with CUDA enabled", "card_cpu_torch",
         "torch 2.13.0+cpu is built for CPUs"),
        (Signs(torch="2.13.0+cpu", in_wsl=True), "Torch not compiled with CUDA enabled", "card_cpu_torch",
         "driver (in Windows) is there, but torch 2.13.0+cpu is built for CPUs"),
        (Signs(torch="2.13.0+cpu", on_bus=True), "", "card_none", ""),  # who installs that torch wants no card
        (replace(CUDA, on_bus=True), "Found no NVIDIA driver", "card_no_driver", "needs driver 580.65.06"),
        (replace(WORKING, driver="550.54.14", library="550.54.14"), TOO_OLD, "card_driver_old",
         "driver 550.54.14 is too old: torch 2.13.0 is built for CUDA 13.0, and needs driver 580.65.06"),
        (replace(WORKING, driver="550.54.14", library="550.54.14"), "", "card_driver_old", "550.54.14"),
        (replace(WORKING, driver="575.57.08", library=""), "CUDA unknown error", "card_driver_old", "575.57.08"),
        (replace(WORKING, cuda="12.8", driver="470.256.02", library=""), "", "card_driver_old", "525.60.13"),
        (CUDA, TOO_OLD, "card_driver_old", "CUDA 13.0"),  # WSL: no driver is seen in Linux
        (replace(CUDA, in_wsl=True), "Found no NVIDIA driver", "card_wsl", "wsl --update"),
        (replace(CUDA, in_wsl=True), "No CUDA GPUs are available", "card_wsl", "within WSL (No CUDA GPUs"),
        (replace(CUDA, in_wsl=True), "", "card_wsl", "nvidia-smi"),
        (CUDA, "No CUDA GPUs are available", "card_none", ""),
        (CUDA, "", "card_none", ""),
        (CUDA, "CUDA unknown error - this may be due to ...", "card_error", "unknown error"),  # of a masked /proc
        (CUDA, "Unexpected error ... Error 803: system has unsupported display driver", "card_error", "Error 803"),
        (WORKING, "CUDA error: all CUDA-capable devices are busy or unavailable", "card_busy", "nvidia-smi -c 0"),
        (CUDA, "CUDA error: CUDA-capable device(s) is/are busy or unavailable", "card_busy", "cuda:1"),
        (replace(WORKING, address_gib=32.0), "CUDA error: out of memory", "card_address_limit", "ulimit -v unlimited"),
        (replace(WORKING, address_gib=32.0), "CUDA error: all CUDA-capable devices are busy or unavailable",
         "card_busy", "a running prelabel is one"),
        (WORKING, "CUDA driver initialization failed: out of memory", "card_error", "out of memory"),
        (replace(WORKING, library="580.105.08"), "CUDA unknown error", "card_driver_mixed", "Restart the machine"),
        (replace(WORKING, library="590.44.01"), "Unexpected error ... Error 803: system has unsupported display driver",
         "card_driver_mixed", "580.95.05 is loaded, but its libraries are of 590.44.01"),
        (replace(CUDA, driver="580.95.05", on_bus=True, in_container=True), "Found no NVIDIA driver",
         "card_not_in_container", "--gpus all"),
        (replace(CUDA, driver="550.54.14", in_container=True, visible=""), "", "card_not_in_container", "toolkit"),
        (replace(WORKING, device_files=False), "No CUDA GPUs are available", "card_no_device", "nvidia-smi as root"),
        (replace(WORKING, closed_file="/dev/nvidia0"), "CUDA unknown error", "card_no_permission",
         "/dev/nvidia0 cannot be opened"),
        (replace(WORKING, taken_file="/dev/nvidiactl", in_container=True), "CUDA unknown error", "card_taken_back",
         "docker compose restart prelabel"),
        (replace(WORKING, taken_file="/dev/nvidiactl"), "No CUDA GPUs are available", "card_taken_back",
         "/dev/nvidiactl may not be opened here"),
        (replace(WORKING, library=""), "Found no NVIDIA driver on your system.", "card_no_library", "compute,utility"),
        (replace(WORKING, visible=""), "No CUDA GPUs are available", "card_hidden", "CUDA_VISIBLE_DEVICES= hides"),
        (replace(WORKING, visible=""), "No CUDA GPUs are available", "card_hidden", "--num-gpus=0"),
        (replace(WORKING, visible="7"), "No CUDA GPUs are available", "card_hidden", "CUDA_VISIBLE_DEVICES=7 hides"),
        (replace(WORKING, visible="-1"), "", "card_hidden", "CUDA_VISIBLE_DEVICES=-1 hides"),
        (replace(WORKING, visible="0"), "CUDA unknown error - this may be due to ...", "card_no_uvm", "unknown error"),
        (WORKING, "CUDA unknown error - this may be due to ...", "card_no_uvm", "modprobe nvidia_uvm"),
        (WORKING, "No CUDA GPUs are available", "card_no_instance", "nvidia-smi mig -cgi 0 -C"),
        (WORKING, "libcudnn.so.*[0-9] not found in the system path ['/venv']", "load_no_library", "constraints.txt"),
        (WORKING, "Unexpected error from cudaGetDeviceCount() ... Error 802: system not yet initialized", "card_fabric",
         "nvidia-fabricmanager"),
        (WORKING, "Unexpected error ... Error 804: forward compatibility was attempted on non supported HW",
         "card_error", "Error 804"),
        (WORKING, "", "card_unseen", "580.95.05"),
        (replace(WORKING, cuda="14.1"), TOO_OLD, "card_driver_old", "needs driver for CUDA 14.1"),
        (replace(WORKING, cuda="14.1"), "CUDA unknown error", "card_no_uvm", "CUDA unknown error"),
    ],
)  # fmt: skip
def test_no_card_is_told_from_a_card_that_cuda_cannot_use(signs: Signs, said: str, code: str, told: str) -> None:
    found = why_no_card(signs, said)
    assert found.code == code
    assert told in str(found)


@pytest.mark.parametrize(
    ("name", "capability", "runs"),
    [
        ("NVIDIA GeForce RTX 3090", (8, 6), True),
        ("NVIDIA GeForce RTX 4090", (8, 9), True),
        ("NVIDIA GeForce RTX 5090", (12, 0), True),
        ("NVIDIA A100-SXM4-40GB", (8, 0), True),
        ("NVIDIA H200", (9, 0), True),
        ("Tesla T4", (7, 5), False),
        ("Quadro RTX 6000", (7, 5), False),
        ("NVIDIA GeForce RTX 2080 Ti", (7, 5), False),
        ("Tesla V100-SXM2-32GB", (7, 0), False),
        ("Tesla P40", (6, 1), False),
    ],
)
def test_a_card_without_bfloat16_is_refused_by_name(name: str, capability: tuple[int, int], runs: bool) -> None:
    card = Card(name, 32.0, 31.0, capability)
    found = find_card(ask=lambda device: Seen(card, 1), read=lambda: WORKING)
    assert found == card if runs else isinstance(found, Trouble)
    if isinstance(found, Trouble):
        assert f"{name} has compute capability {capability[0]}.{capability[1]}, and 8.0 is needed" in str(found)


def test_a_number_that_no_card_has_is_told_with_how_many_there_are() -> None:
    found = find_card("cuda:3", ask=lambda device: Seen(num_cards=2), read=lambda: WORKING)
    assert str(found) == "PRELABEL_DEVICE=cuda:3, but torch sees 2 of them, and counts from cuda:0."


def test_a_card_that_fails_when_it_is_asked_is_told_in_cudas_words() -> None:
    seen = Seen(num_cards=1, said="CUDA error: uncorrectable ECC error encountered")
    found = find_card(ask=lambda device: seen, read=lambda: WORKING)
    assert isinstance(found, Trouble)
    assert found.code == "card_error"
    assert "uncorrectable ECC error encountered (NVIDIA's driver 580.95.05" in str(found)


@pytest.mark.parametrize(
    ("free_gib", "taken", "num_waits"),
    [
        pytest.param([23.0], 23.0, 0, id="nobody is on it"),
        pytest.param([3.0, 3.0], 3.0, 1, id="others stay on it"),
        pytest.param([3.0, 11.0, 23.0], 23.0, 2, id="a killed engine leaves it"),
        pytest.param([3.0, 11.0, 11.0], 11.0, 2, id="one of two leaves it"),
        pytest.param([1.0 + i for i in range(99)], 16.0, 15, id="it is never awaited for long"),
    ],
)
def test_memory_that_a_program_which_ends_gives_back_is_waited_for(
    free_gib: list[float], taken: float, num_waits: int
) -> None:
    looks = iter([Card("Some Card", 24.0, free, (8, 9)) for free in free_gib])
    waits: list[float] = []
    [found] = settle(lambda: [next(looks)], waits.append)
    assert isinstance(found, Card)
    assert (found.free_gib, len(waits)) == (taken, num_waits)


def test_looks_that_take_long_themselves_do_not_prolong_the_wait() -> None:
    """As at several cards, each time in a process of its own."""
    now_s = 0.0

    def look() -> list[Card]:
        nonlocal now_s
        now_s += 20
        return [Card("Some Card", 80.0, now_s / 20, (8, 9))]

    [found] = settle(look, lambda seconds: None, lambda: now_s)
    assert isinstance(found, Card)
    assert found.free_gib == 3


def test_a_card_that_fails_while_it_is_waited_for_is_told() -> None:
    looks = iter([Card("Some Card", 24.0, 3.0, (8, 9)), trouble("card_busy", card="")])
    assert settle(lambda: [next(looks)], lambda seconds: None) == [trouble("card_busy", card="")]


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\nGCC version: 12\n"
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024\nGCC version: 12\n"
BUS = "sys/bus/pci/devices/0000"


@pytest.mark.parametrize(
    ("files", "environ", "expected"),
    [
        pytest.param({}, {}, Signs(), id="nothing"),
        pytest.param({"proc/driver/nvidia/version": OPEN, "dev/nvidia0": "", "dev/nvidiactl": ""}, {},
                     Signs(driver="580.95.05", device_files=True), id="an open driver"),
        pytest.param({"proc/driver/nvidia/version": CLOSED, ".dockerenv": ""}, {"CUDA_VISIBLE_DEVICES": "1"},
                     Signs(driver="550.54.14", in_container=True, visible="1"), id="a container without a card"),
        pytest.param({f"{BUS}:01:00.0/vendor": "0x10de\n", f"{BUS}:01:00.0/class": "0x030000\n"}, {},
                     Signs(on_bus=True), id="a card without a driver"),
        pytest.param({f"{BUS}:01:00.1/vendor": "0x10de\n", f"{BUS}:01:00.1/class": "0x040300\n",
                      f"{BUS}:00:02.0/vendor": "0x8086\n", f"{BUS}:00:02.0/class": "0x030000\n"}, {},
                     Signs(), id="the sound of a card, and another maker's card"),
        pytest.param({"usr/lib/wsl/lib/libcuda.so.1": "", "usr/lib/wsl/lib/libdxcore.so": ""}, {},
                     Signs(in_wsl=True), id="a card of Windows"),
        pytest.param({"usr/lib/wsl/lib/libdxcore.so": ""}, {}, Signs(), id="Windows without NVIDIA's driver"),
        pytest.param({"dev/nvidia0": "", "dev/nvidia1": "closed", "dev/nvidiactl": ""}, {},
                     Signs(device_files=True), id="one card of two may be opened"),
        pytest.param({"dev/nvidia0": "closed", "dev/nvidiactl": ""}, {},
                     Signs(device_files=True, closed_file="/dev/nvidia0"), id="no card may be opened"),
        pytest.param({"dev/nvidia0": "taken", "dev/nvidiactl": "taken", ".dockerenv": ""}, {},
                     Signs(device_files=True, taken_file="/dev/nvidiactl", in_container=True), id="a card taken back"),
        pytest.param({"dev/nvidia0": "", "dev/nvidia-uvm": "closed"}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
                     Signs(device_files=True, closed_file="/dev/nvidia-uvm", in_container=True), id="a shared file"),
    ],
)  # fmt: skip
def test_the_signs_of_a_card_are_read_from_the_machine(
    tmp_path: Path, files: dict[str, str], environ: dict[str, str], expected: Signs
) -> None:
    write(tmp_path, files)
    signs = read_signs(
        tmp_path,
        environ,
        may_open=lambda file: file.read_text() != "closed",
        is_taken=lambda file: file.read_text() == "taken",
    )
    assert signs.torch.startswith("2.")
    assert replace(signs, torch="", cuda="") == expected


def test_the_version_of_the_drivers_library_is_that_of_the_file_its_name_leads_to(tmp_path: Path) -> None:
    folder = tmp_path / "usr/lib/x86_64-linux-gnu"
    write(tmp_path, {"usr/lib/x86_64-linux-gnu/libcuda.so.580.105.08": "", "usr/lib/wsl/lib/libcuda.so.1.1": ""})
    (folder / "libcuda.so.1").symlink_to("libcuda.so.580.105.08")
    assert read_signs(tmp_path, {}).library == "580.105.08"


HELD = "CUDA error: CUDA-capable device(s) is/are busy or unavailable"
CARD_1 = "cuda:1, PCI 00000000:41:00.0, GPU-8f3a0000-0000-0000-0000-000000000001"


class LateError(Exception):
    """As torch's DeferredCudaCallError, which is no RuntimeError."""


class Cuda:
    """In place of torch.cuda: cards of 24 GiB, by how much of each is free; or what `init` or a card raises."""

    def __init__(
        self,
        *free_gib: float,
        init: str = "",
        kind: type[Exception] = RuntimeError,
        card: str = "",
        is_integrated: bool = False,
    ) -> None:
        self._free_gib, self._init, self._card, self._is_integrated = free_gib, init, card, int(is_integrated)
        self._kind = kind

    def init(self) -> None:
        if self._init:
            raise self._kind(self._init)

    def device_count(self) -> int:
        return len(self._free_gib)

    def current_device(self) -> int:
        return 0

    def get_device_properties(self, number: int) -> SimpleNamespace:
        return SimpleNamespace(
            name=f"Card {number}", major=8, minor=9, total_memory=24 * GIB, is_integrated=self._is_integrated,
            pci_domain_id=0, pci_bus_id=0x40 + number, pci_device_id=0,
            uuid=f"8f3a0000-0000-0000-0000-{number:012}",
        )  # fmt: skip

    def mem_get_info(self, number: int) -> tuple[int, int]:
        if self._card:
            raise RuntimeError(self._card)
        return int(self._free_gib[number] * GIB), 24 * GIB

    def memory_reserved(self, number: int) -> int:
        return 0


@pytest.mark.parametrize(
    ("device", "cuda", "seen"),
    [
        (None, Cuda(20), Seen(Card("Card 0", 24, 20.5, (8, 9)), 1)),  # its own context counts as free
        ("cuda", Cuda(23.8), Seen(Card("Card 0", 24, 24, (8, 9)), 1)),
        ("cuda:1", Cuda(20, 10), Seen(Card("Card 1", 24, 10.5, (8, 9), 1, CARD_1), 2)),
        ("cuda:2", Cuda(20, 10), Seen(num_cards=2)),
        (None, Cuda(init=TOO_OLD), Seen(said=TOO_OLD)),
        (None, Cuda(init="no CUDA", kind=AssertionError), Seen(said="no CUDA")),
        (
            None,
            Cuda(init="CUDA call failed lazily at initialization\n...", kind=LateError),
            Seen(said="CUDA call failed lazily at initialization"),
        ),
        (
            None,
            Cuda(20, card="CUDA error: out of memory\nCompile with ..."),
            Seen(Card("Card 0", 24, 0, (8, 9)), 1),  # full to the brim
        ),
        ("cuda:1", Cuda(20, 10, card=HELD), Seen(Card("Card 1", 24, 0, (8, 9), 1, CARD_1), 2, HELD)),
    ],
)
def test_torch_is_asked_for_the_card_that_was_named(device: str | None, cuda: Cuda, seen: Seen) -> None:
    assert ask_torch(device, cuda) == seen


def test_a_limit_of_addresses_is_not_taken_for_other_programs() -> None:
    ask = (
        "import resource as r; r.setrlimit(r.RLIMIT_AS, (2**40, r.getrlimit(r.RLIMIT_AS)[1])); "
        "from model_loader.cards import ask_torch, find_card; "
        "from tests.model_loader.test_cards import Cuda, WORKING; from dataclasses import replace; "
        "seen = ask_torch(None, Cuda(20, card='CUDA error: out of memory')); "
        "print(find_card(ask=lambda device: seen, read=lambda: replace(WORKING, address_gib=1024.0)))"
    )
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, timeout=RUN_S, check=True)
    assert "processes here may have 1024.0 GiB of addresses (ulimit -v)" in done.stdout


def test_an_old_card_that_another_program_holds_is_not_waited_for() -> None:
    held = Seen(Card("Tesla T4", 14.6, 0.0, (7, 5)), 1, HELD)
    found = find_card(ask=lambda device: held, read=lambda: WORKING)
    assert isinstance(found, Trouble)
    assert found.code == "card_too_old"


def test_a_card_that_another_program_holds_for_itself_alone_is_named_and_known() -> None:
    found = find_card("cuda:1", ask=lambda device: ask_torch(device, Cuda(20, 10, card=HELD)), read=lambda: WORKING)
    assert str(found).startswith(f"Another program holds the card Card 1 ({CARD_1}) for itself alone. End it")
    assert held_card(found) == Card(f"Card 1 ({CARD_1})", 24.0, 0.0, (8, 9))


@pytest.mark.parametrize(
    ("is_integrated", "host_gib", "free_gib"),
    [(True, 18, 18.5), (True, 1, 3.5), (True, None, 3.5), (False, 18, 3.5)],
)
def test_cached_files_are_not_taken_for_memory_of_other_programs(
    is_integrated: bool, host_gib: int | None, free_gib: float
) -> None:
    """Of a card that shares the machine's memory, CUDA says so after a download."""
    seen = ask_torch(None, Cuda(3, is_integrated=is_integrated), lambda: host_gib and host_gib * GIB)
    assert seen.card is not None
    assert seen.card.free_gib == free_gib


def test_torch_itself_is_asked_and_never_raises() -> None:
    seen = ask_torch(None)
    assert (seen.card is not None) or seen.said
    assert ask_torch("cuda:99").card is None


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (OSError, "libcudart.so.13: cannot open shared object file: No such file or directory"),
        (ImportError, "torch/lib/libtorch_cuda.so: undefined symbol: ncclCommWindowRegister"),
    ],
)
def test_a_torch_that_cannot_be_loaded_is_told_and_is_no_missing_card(
    kind: type[Exception], said: str, tmp_path: Path
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text(f"raise {kind.__name__}({said!r})")
    (tmp_path / "torch/version.py").write_text("__version__, cuda = '2.9.1', '13.0'")
    code = "from model_loader.cards import find_card; print(find_card(None))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": f"{tmp_path}:."}, capture_output=True, text=True,
        timeout=RUN_S, check=True,
    )  # fmt: skip
    assert done.stdout.startswith(f"a library is missing or another version than needed ({said})")
    assert "constraints.txt" in done.stdout
