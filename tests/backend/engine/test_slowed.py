"""What slows a card's clock, as NVML says it: a stand-in of the library, and a clock of our own."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import pytest
import torch

from backend.engine.slowed import EVERY_S, FRESH_S, Reading, Slowed, read_nvml, slowed_card

ADDRESS = "00000000:01:00.0"
HOT = Reading(0x20, 91)


class FakeNvml:
    """`says`: what each of its functions writes; the others answer that they know nothing."""

    def __init__(self, **says: int) -> None:
        self.says, self.num_open = {"nvmlDeviceGetHandleByPciBusId_v2": 1} | says, 0

    def nvmlInit_v2(self) -> int:  # noqa: N802
        self.num_open += 1
        return 0

    def nvmlShutdown(self) -> int:  # noqa: N802
        self.num_open -= 1
        return 0

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*args: Any) -> int:
            if name not in self.says or (args[0] != ADDRESS.encode() and "Handle" in name):
                return 3
            ctypes.cast(args[-1], ctypes.POINTER(ctypes.c_uint))[0] = self.says[name]
            return 0

        return call


def test_what_a_driver_says_is_read_and_the_library_is_left() -> None:
    nvml = FakeNvml(
        nvmlDeviceGetCurrentClocksThrottleReasons=0x24,
        nvmlDeviceGetTemperature=91,
        nvmlDeviceGetEnforcedPowerLimit=250_000,
        nvmlDeviceGetPowerManagementDefaultLimit=450_000,
    )
    assert read_nvml(ADDRESS, lambda _: nvml) == Reading(0x24, 91, 250, 450)
    assert read_nvml("00000000:02:00.0", lambda _: nvml) is None
    assert nvml.num_open == 0


def test_a_machine_without_the_library_or_a_card_without_the_reading_says_nothing() -> None:
    def missing(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    assert read_nvml(ADDRESS, missing) is None
    assert read_nvml(ADDRESS, lambda _: object()) is None
    assert read_nvml(ADDRESS, lambda _: FakeNvml()) is None
    only_reasons = FakeNvml(nvmlDeviceGetCurrentClocksThrottleReasons=0x04)
    assert read_nvml(ADDRESS, lambda _: only_reasons) == Reading(0x04)
    assert slowed_card("cpu")() == ()


@pytest.mark.parametrize(
    ("reading", "slower"),
    [
        (Reading(0), ()),
        (Reading(0x01), ()),  # idle
        (Reading(0x20, 91), (("slow_hot", "91 °C"),)),
        (Reading(0x48), (("slow_hot", "? °C"),)),
        (Reading(0x80), (("slow_brake", "HW Power Brake"),)),
        (Reading(0x04, 60, 250, 450), (("slow_power", "250 / 450 W"),)),
        (Reading(0x04, 60, 450, 450), ()),  # as fast as its maker lets it be
        (Reading(0x04), ()),
        (Reading(0x00, 60, 250, 450), ()),  # limited, and below the limit
        (Reading(0x24, 91, 250, 450), (("slow_hot", "91 °C"), ("slow_power", "250 / 450 W"))),
    ],
)
def test_only_what_slows_a_card_that_could_be_faster_is_told(reading: Reading, slower: object) -> None:
    assert reading.slower == slower


def slower_after(readings: list[Reading | None], every_s: float = EVERY_S) -> list[str]:
    """The codes that are told after each look."""
    now, told = 0.0, []
    left = iter(readings)
    slowed = Slowed(lambda: next(left), lambda: now, lambda look: look())
    for _ in readings:
        told.append(" ".join(code for code, _ in slowed()))
        now += every_s
    return told


def test_one_moment_among_others_is_not_told_and_what_comes_back_is() -> None:
    cool = Reading(0)
    assert slower_after([cool, HOT, cool, cool, cool, cool]) == [""] * 6
    assert slower_after([cool, HOT, cool, HOT, cool, cool, cool]) == ["", "", "", *["slow_hot"] * 3, ""]
    assert slower_after([HOT]) == ["slow_hot"]
    assert slower_after([None, HOT, HOT]) == ["", "slow_hot", "slow_hot"]


def test_what_was_found_before_a_long_pause_is_forgotten() -> None:
    assert slower_after([HOT, Reading(0)], every_s=FRESH_S) == ["slow_hot", ""]


def test_a_driver_is_asked_seldom_and_one_that_does_not_answer_is_not_asked_again() -> None:
    now, begun = 0.0, []
    slowed = Slowed(lambda: HOT, lambda: now, begun.append)
    for _ in range(3):
        assert slowed() == ()
    assert len(begun) == 1
    now = EVERY_S
    assert slowed() == ()  # it has not answered yet
    assert len(begun) == 1
    begun[0]()
    assert slowed() == (("slow_hot", "91 °C"),)
    assert len(begun) == 2


@pytest.mark.gpu
def test_this_card_is_read() -> None:
    from model_loader.cards import pci_address

    assert read_nvml(pci_address(torch.cuda.get_device_properties(0))) is not None
