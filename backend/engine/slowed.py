"""What slows the clock of a card that works: heat, a power limit that somebody has lowered, the power supply.

The card does all of that in silence; NVIDIA's driver tells who asks it, through NVML, the library of nvidia-smi. It is
asked seldom, and in a thread: a driver may never answer. A card or a driver without such a reading says nothing, and
nothing is raised.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from model_loader.cards import pci_address

EVERY_S = 60.0
LOOKS, FOUND = 5, 2
"""What so many of the last looks found is told: each sees one moment only, and a clock goes down and up again."""
FRESH_S = 2 * LOOKS * EVERY_S
"""What is older, as before a pause without work, counts no more."""

_POWER_CAP, _HOT, _BRAKE = 0x04, 0x20 | 0x40, 0x80
"""NVML's reasons why a clock is low: the power limit; the driver's limit of heat, and the card's own; a signal of the
power supply."""
_CORE = 0

Slower = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """`reasons`: NVML's, a bit each. What the driver does not tell is 0; the default power limit is the maker's."""

    reasons: int
    celsius: int = 0
    limit_w: int = 0
    default_w: int = 0

    @property
    def slower(self) -> Slower:
        """As `Ready.slower`. A card that reaches the power limit of its maker is as fast as it should be."""
        found: list[tuple[str, str]] = []
        if self.reasons & _HOT:
            found.append(("slow_hot", f"{self.celsius or '?'} °C"))
        if self.reasons & _BRAKE:
            found.append(("slow_brake", "HW Power Brake"))
        if self.reasons & _POWER_CAP and 0 < self.limit_w < self.default_w:
            found.append(("slow_power", f"{self.limit_w} / {self.default_w} W"))
        return tuple(found)


class Slowed:
    """Ask it while there is work: it never waits, and says what the last looks have found."""

    def __init__(
        self,
        read: Callable[[], Reading | None],
        clock: Callable[[], float] = time.monotonic,
        begin: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        """`begin` has a look made beside the caller; a thread where it is left out."""
        self._read, self._clock, self._begin = read, clock, begin or _in_thread
        self._looks: deque[tuple[float, Slower]] = deque(maxlen=LOOKS)
        self._looked_at: float | None = None
        self._is_looking = False

    def __call__(self) -> Slower:
        now = self._clock()
        if not self._is_looking and (self._looked_at is None or now - self._looked_at >= EVERY_S):
            self._looked_at, self._is_looking = now, True  # one that never returns is the last
            self._begin(self._look)
        looks = [dict(slower) for at, slower in tuple(self._looks) if now - at < FRESH_S]
        needed = min(FOUND, len(looks))
        last = {code: said for slower in looks for code, said in slower.items()}
        return tuple((code, said) for code, said in last.items() if sum(code in slower for slower in looks) >= needed)

    def _look(self) -> None:
        if (reading := self._read()) is not None:
            self._looks.append((self._clock(), reading.slower))
        self._is_looking = False


def slowed_card(device: str) -> Callable[[], Slower]:
    """What is to be asked about the card `device`; of a CPU, and a card without an address, it says nothing."""
    import torch

    address = pci_address(torch.cuda.get_device_properties(device)) if device.startswith("cuda") else ""
    return Slowed(lambda: read_nvml(address)) if address else tuple


def read_nvml(address: str, load: Callable[[str], Any] = ctypes.CDLL) -> Reading | None:
    """What NVML says of the card at the PCI `address`; None where it does not say what slows it. `load` loads it."""
    try:
        nvml = load("libnvidia-ml.so.1")
        if nvml.nvmlInit_v2():
            return None
        try:
            return _read(nvml, address)
        finally:
            nvml.nvmlShutdown()
    except (OSError, AttributeError):  # there is no such library, or an old one
        return None


def _read(nvml: Any, address: str) -> Reading | None:
    """Each of its functions returns 0 where it has answered."""
    card = ctypes.c_void_p()
    if nvml.nvmlDeviceGetHandleByPciBusId_v2(address.encode(), ctypes.byref(card)):
        return None
    reasons, celsius, limit_mw, default_mw = ctypes.c_ulonglong(), ctypes.c_uint(), ctypes.c_uint(), ctypes.c_uint()
    if nvml.nvmlDeviceGetCurrentClocksThrottleReasons(card, ctypes.byref(reasons)):
        return None
    if nvml.nvmlDeviceGetTemperature(card, _CORE, ctypes.byref(celsius)):
        celsius.value = 0
    if nvml.nvmlDeviceGetEnforcedPowerLimit(card, ctypes.byref(limit_mw)):
        limit_mw.value = 0
    if nvml.nvmlDeviceGetPowerManagementDefaultLimit(card, ctypes.byref(default_mw)):
        default_mw.value = 0
    return Reading(reasons.value, celsius.value, limit_mw.value // 1000, default_mw.value // 1000)


def _in_thread(work: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # no thread is to be had: that was the last look
        threading.Thread(target=work, name="card-clock", daemon=True).start()
