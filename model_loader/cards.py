"""The CUDA card of this machine, or why there is none that can be used.

`find_card` asks torch; where torch sees nothing, the traces that a card and its driver leave on a machine tell "there
is none" from "CUDA cannot use it". Nothing here raises, and importing this imports no torch.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import resource
import runpy
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from model_loader.geometry import Geometry
from model_loader.host import available_bytes
from model_loader.memory import CUDA_CONTEXT_BYTES, GIB, MAX_SLOTS, MemoryPlan, Request, plan_memory
from model_loader.troubles import Trouble, trouble, warning

LEAST_CAPABILITY = (8, 0)
"""bfloat16 on tensor cores, which our kernels are written for: Ampere and newer."""
DRIVER_FOR_CUDA = {12: "525.60.13", 13: "580.65.06"}
"""The oldest Linux driver that runs programs of a CUDA release, whatever its minor version."""
BUSY = "card_busy"
TOO_SMALL = ("memory_too_small", "memory_limited")
"""What speaks against a model whatever else runs on the card."""
TIGHT = 0.5
"""A person is told where other programs leave less than this share of the requests at a time."""
SETTLED, SETTLE_S, SETTLE_TIMES, SETTLE_GIB = 0.9, 2.0, 15, 0.1
"""A card of which this share is free is taken as it is; else it is looked at so often, so many seconds apart, while
each look finds so much more of it free."""
_NO_CARD = ("Found no NVIDIA driver", "No CUDA GPUs are available", "no CUDA-capable device")
"""What CUDA says where there is neither a card nor a driver. Whatever else it says, it has found something."""
_NO_ROOM = "out of memory"
_NO_TORCH = (
    "cannot open shared object file", "No module named", "cannot import name", "undefined symbol",
    "not found in the system path",
)  # fmt: skip
"""What Python says where torch itself cannot be loaded."""
_LIBRARY_FOLDERS = ("usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib64", "usr/lib")


@dataclass(frozen=True, slots=True)
class Card:
    """A card that can be used. `free_gib`: what this process could take of it, its CUDA context included.

    Where there are several, `number` is CUDA's, `where` tells this card from the others, and `others` says why it was
    taken and none of them.
    """

    name: str
    memory_gib: float
    free_gib: float
    capability: tuple[int, int]
    number: int = 0
    where: str = ""
    others: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return f"{self.name} ({self.where})" if self.where else self.name


@dataclass(frozen=True, slots=True)
class Seen:
    """What torch sees: the card that was asked for, how many there are, and what CUDA says where it cannot use it."""

    card: Card | None = None
    num_cards: int = 0
    said: str = ""


@dataclass(frozen=True, slots=True)
class Signs:
    """What speaks of a card and its driver on this machine. Versions are "" where there is no such thing.

    `cuda`: the release torch is built for. `visible`: CUDA_VISIBLE_DEVICES, None where it is not set. `closed_file`: a
    device file that this user may not open; `taken_file`: one that a container's rules for devices do not let it open.
    `in_wsl`: Linux runs within Windows, which has the driver. `address_gib`: how many addresses a process may have,
    None for as many as there are.
    """

    driver: str = ""
    library: str = ""
    torch: str = ""
    cuda: str = ""
    visible: str | None = None
    on_bus: bool = False
    device_files: bool = False
    closed_file: str = ""
    taken_file: str = ""
    in_container: bool = False
    in_wsl: bool = False
    address_gib: float | None = None


def find_card(
    device: str | None = None,
    *,
    ask: Callable[[str | None], Seen] | None = None,
    read: Callable[[], Signs] | None = None,
) -> Card | Trouble:
    """Return the card `device` ("cuda:1"; None or "cuda": the current one), or why it cannot be used.

    `ask` and `read` are `ask_torch` and `read_signs` where they are left out. A driver may never return.
    """
    seen = (ask or ask_torch)(device)
    if seen.card is not None and seen.card.capability < LEAST_CAPABILITY:
        capability = ".".join(map(str, seen.card.capability))
        return trouble("card_too_old", card=seen.card.label, capability=capability)
    if seen.card is not None and not seen.said:
        return seen.card
    if seen.num_cards and not seen.said:
        return trouble("card_no_such", device=device or "cuda", count=str(seen.num_cards))
    found = why_no_card((read or partial(read_signs, is_taken=is_taken))(), seen.said)
    return replace(found, values=found.values | _told_of(seen.card)) if found.code == BUSY and seen.card else found


def _told_of(held: Card) -> dict[str, str]:
    capability = ".".join(map(str, held.capability))
    return {"card": f" {held.label}", "memory": str(held.memory_gib), "capability": capability}


def held_card(found: Card | Trouble) -> Card | None:
    """The card that another program holds for itself alone, as far as `found` says so, with nothing free of it."""
    if isinstance(found, Card) or found.code != BUSY or "memory" not in found.values:
        return None
    major, minor = map(int, found.values["capability"].split("."))
    card = Card(found.values["card"].strip(), float(found.values["memory"]), 0.0, (major, minor))
    return card if card.capability >= LEAST_CAPABILITY else None


def settle(
    look: Callable[[], Sequence[Card | Trouble]],
    wait: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    worth: Callable[[Card], int] = lambda card: 0,
) -> Sequence[Card | Trouble]:
    """What `look` finds once programs that end have given their memory back, as an engine that was killed just before.

    A driver takes seconds for that, while no list names the program any more: who looked too early would be told to end
    programs that nobody finds, or take another card. Cards are compared by their `worth`, then by what is free of them:
    one that others fill is not waited for where it would not be taken if they left it.
    """

    def of_cards() -> list[Card]:
        return [one for one in found if isinstance(one, Card)]

    def is_final() -> bool:
        best = max(((worth(card), card.free_gib) for card in of_cards()), default=None)
        return best is None or all((worth(card), SETTLED * card.memory_gib) <= best for card in of_cards())

    found, until = look(), clock() + SETTLE_TIMES * SETTLE_S  # a look at several cards takes seconds itself
    for _ in range(SETTLE_TIMES):
        if clock() >= until or is_final():
            break
        wait(SETTLE_S)
        before_gib = sum(card.free_gib for card in of_cards())
        found = look()
        if sum(card.free_gib for card in of_cards()) <= before_gib + SETTLE_GIB:
            break
    return found


def judge_memory(
    geometry: Geometry,
    card: Card,
    *,
    vram_gib: float | None = None,
    quantisation: str = "nf4",
    request: Request | None = None,
    max_slots: int = MAX_SLOTS,
) -> tuple[MemoryPlan, Trouble | None]:
    """Return the plan within what is free of `card` (of `vram_gib` of it, if given), and what speaks against it."""
    room_gib = card.memory_gib if vram_gib is None else min(vram_gib, card.memory_gib)
    free_gib = max(0.0, card.free_gib - CUDA_CONTEXT_BYTES / GIB)
    planned = partial(
        plan_memory, geometry, vram_gib=room_gib, request=request, max_slots=max_slots, quantisation=quantisation
    )
    most, plan = planned(), planned(free_gib=free_gib)
    needed, free = f"{most.needed_bytes / GIB:.1f}", f"{card.free_gib:.1f}"
    card_gib = f"{card.memory_gib:.1f}"
    if not most.fits and room_gib < card.memory_gib:
        return most, trouble("memory_limited", needed=needed, limit=f"{room_gib:g}", card=card_gib)
    if not most.fits:
        return most, trouble("memory_too_small", needed=needed, card=card_gib)
    if not plan.fits:
        return plan, trouble("memory_taken", needed=needed, card=card_gib, free=free)
    slots, most_slots = plan.num_slots or 0, most.num_slots or 0
    if slots < TIGHT * most_slots:
        counts = {"slots": str(slots), "most": str(most_slots)}
        return plan, warning("memory_tight", card=card_gib, free=free, **counts)
    return plan, None


def why_no_card(signs: Signs, said: str = "") -> Trouble:
    """Why torch sees no card that it can use. `said`: what CUDA said of it, "" where nobody has asked it.

    "card_none" where nothing on this machine speaks of a card, nor CUDA of anything but that there is none.
    """
    driver, torch = signs.driver or "?", signs.torch
    if any(words in said for words in _NO_TORCH):
        return trouble("load_no_library", said=said)
    if not signs.cuda:
        driver = signs.driver or ("(in Windows)" if signs.in_wsl else "")
        return trouble("card_cpu_torch", driver=driver, torch=torch) if driver else trouble("card_none")
    needed = DRIVER_FOR_CUDA.get(int(signs.cuda.partition(".")[0]), f"for CUDA {signs.cuda}")
    too_old = trouble("card_driver_old", driver=driver, torch=torch, cuda=signs.cuda, needed=needed)
    if "too old" in said or "driver version is insufficient" in said:
        return too_old
    if _NO_ROOM in said and signs.address_gib is not None:
        return trouble("card_address_limit", said=said, limit=f"{signs.address_gib:.1f}")
    if "busy or unavailable" in said:
        return trouble(BUSY, card="")
    if not signs.driver and signs.in_wsl:
        return trouble("card_wsl", said=said or "?")
    if not signs.driver and signs.on_bus:
        return trouble("card_no_driver", torch=torch, needed=needed)
    if not signs.driver and (not said or any(words in said for words in _NO_CARD)):
        return trouble("card_none")
    if not signs.driver:
        return trouble("card_error", said=said, driver=driver, torch=torch)
    if not signs.device_files:
        return trouble("card_not_in_container" if signs.in_container else "card_no_device", driver=driver)
    if signs.closed_file:
        return trouble("card_no_permission", file=signs.closed_file, uid=str(os.getuid()))
    if signs.taken_file:
        return trouble("card_taken_back", file=signs.taken_file, driver=driver)
    if signs.library and signs.library != signs.driver:
        return trouble("card_driver_mixed", driver=driver, library=signs.library)
    if _numbers(signs.driver) < _numbers(needed):
        return too_old
    if "Error 802" in said or "system not yet initialized" in said:
        return trouble("card_fabric", driver=driver)
    if "Found no NVIDIA driver" in said:
        return trouble("card_no_library", driver=driver)
    if signs.visible is not None and ("No CUDA GPUs" in said or not said):
        return trouble("card_hidden", visible=signs.visible)
    if not said:
        return trouble("card_unseen", driver=driver, torch=torch)
    if "No CUDA GPUs" in said:
        return trouble("card_no_instance", driver=driver)
    if "unknown error" in said:
        return trouble("card_no_uvm", said=said, driver=driver, torch=torch)
    return trouble("card_error", said=said, driver=driver, torch=torch)


def num_cards() -> int:
    """How many torch sees. This makes no CUDA context."""
    try:
        return int(_torch_cuda().device_count())
    except Exception:  # `ask_torch` says what it is
        return 0


def _torch_cuda() -> Any:
    """torch.cuda, which counts the cards as nvidia-smi does unless somebody has said otherwise."""
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    from torch import cuda

    return cuda


def ask_torch(device: str | None, cuda: Any = None, host_bytes: Callable[[], int | None] = available_bytes) -> Seen:
    """Ask torch for `device`. This makes a CUDA context on it. `cuda` is torch.cuda where it is left out.

    An integrated card's memory is the machine's, of which `host_bytes` are free: CUDA takes files that are cached, as
    after a download, for memory of other programs.
    """
    if cuda is None:
        try:
            cuda = _torch_cuda()
        except Exception as error:  # a library of CUDA's is missing, or torch itself; it has several kinds for that
            return Seen(said=_first_line(error))
    count, card = 0, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it warns of, `init` raises
            cuda.init()
        count = cuda.device_count()
        number = int(device.partition(":")[2]) if device and ":" in device else cuda.current_device()
        if number >= count:
            return Seen(num_cards=count)
        properties = cuda.get_device_properties(number)
        where, capability = _where(number, properties) if count > 1 else "", (properties.major, properties.minor)
        card = Card(properties.name, properties.total_memory / GIB, 0.0, capability, number, where)
        least = (host_bytes() or 0) if properties.is_integrated else 0
        free_bytes = min(properties.total_memory, _free_bytes(cuda, number, least))
    except Exception as error:  # RuntimeError for most, AssertionError without CUDA, a kind of its own for late calls
        return Seen(card, count, _first_line(error))
    return Seen(replace(card, free_gib=free_bytes / GIB), count)


def _where(number: int, properties: Any) -> str:
    """CUDA's number, and what `nvidia-smi` and `nvidia-smi -L` call the card, as far as this torch knows it."""
    told = [f"cuda:{number}"]
    if address := pci_address(properties):
        told.append(f"PCI {address}")
    if uuid := str(getattr(properties, "uuid", "")):
        told.append(uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}")
    return ", ".join(told)


def pci_address(properties: Any) -> str:
    """As NVIDIA's driver writes it; "" where this torch does not know it."""
    try:
        return f"{properties.pci_domain_id:08X}:{properties.pci_bus_id:02X}:{properties.pci_device_id:02X}.0"
    except AttributeError:
        return ""


def _first_line(error: Exception) -> str:
    return " ".join(str(error).partition("\n")[0].split()) or type(error).__name__


def _free_bytes(cuda: Any, number: int, least: int) -> int:
    """What is free, `least` at least, or this process's already; 0 where other programs leave no room for CUDA's
    context. CUDA says the same where a limit of addresses does."""
    try:
        return int(max(cuda.mem_get_info(number)[0], least) + cuda.memory_reserved(number)) + CUDA_CONTEXT_BYTES
    except RuntimeError as error:
        if _NO_ROOM not in str(error) or _address_gib() is not None:
            raise
        return 0


def is_taken(file: Path) -> bool:
    """Whether its rights allow to open `file`, a device, and the system does not: a container's rules forbid it."""
    try:
        os.close(os.open(file, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return error.errno == errno.EPERM
    return False


def read_signs(
    root: Path = Path("/"),
    environ: Mapping[str, str] = os.environ,
    may_open: Callable[[Path], bool] = lambda file: os.access(file, os.R_OK | os.W_OK),
    is_taken: Callable[[Path], bool] = lambda file: False,
) -> Signs:
    """Look for a card and its driver in the files below `root`. Asks neither torch nor CUDA, and opens no device: a
    driver that hangs would take along whoever does, so `is_taken` is for a process of which that is expected."""
    torch, cuda = _torch_versions()
    numbered = sorted((root / "dev").glob("nvidia[0-9]*"))
    shared = [file for file in (root / "dev/nvidiactl", root / "dev/nvidia-uvm") if file.exists()]
    closed = [*(file for file in shared if not may_open(file))]
    if not any(map(may_open, numbered)):
        closed += numbered
    taken = [file for file in shared[:1] if file.name == "nvidiactl" and is_taken(file)]
    return Signs(
        driver=_driver_version(root),
        library=_library_version(root),
        torch=torch,
        cuda=cuda,
        visible=environ.get("CUDA_VISIBLE_DEVICES"),
        on_bus=any(map(_is_nvidia_card, (root / "sys/bus/pci/devices").glob("*"))),
        device_files=bool(numbered),
        closed_file=f"/{closed[0].relative_to(root)}" if closed else "",
        taken_file=f"/{taken[0].relative_to(root)}" if taken else "",
        in_container="container" in environ
        or "KUBERNETES_SERVICE_HOST" in environ
        or any((root / mark).exists() for mark in (".dockerenv", "run/.containerenv")),
        in_wsl=any((root / "usr/lib/wsl/lib").glob("libcuda.so*")),
        address_gib=_address_gib(),
    )


def _address_gib() -> float | None:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit / GIB


def _torch_versions() -> tuple[str, str]:
    """Of the installed torch, and of the CUDA it is built for. Its file says both, without the seconds torch takes."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return "", ""
    said = runpy.run_path(str(Path(found.origin).with_name("version.py")))
    return str(said["__version__"]), str(said["cuda"] or "")


def _driver_version(root: Path) -> str:
    """Of NVIDIA's kernel driver, while it is loaded."""
    lines = _read(root / "proc/driver/nvidia/version").splitlines()
    return next((word for word in lines[0].split() if word[0].isdigit() and "." in word), "?") if lines else ""


def _library_version(root: Path) -> str:
    """Of the driver's library that programs load, from the name of the file that libcuda.so.1 leads to."""
    names = ((root / folder / "libcuda.so.1").resolve().name for folder in _LIBRARY_FOLDERS)
    found = (re.fullmatch(r"libcuda\.so\.(\d{3,}(\.\d+)+)", name) for name in names)
    return next((match[1] for match in found if match), "")


def _is_nvidia_card(folder: Path) -> bool:
    """Whether this PCI device is NVIDIA's, and a display or 3D controller."""
    return _read(folder / "vendor").strip() == "0x10de" and _read(folder / "class").startswith("0x03")


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))
