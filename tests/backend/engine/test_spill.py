"""What Windows' driver has moved to the machine's memory is found by how slowly it is read."""

from __future__ import annotations

import pytest
import torch

from backend.engine.spill import LEAST_BYTES, PIECE_BYTES, spilled
from model_loader.host import is_wsl

ON_CARD, OVER_PCIE = 168e9, 25e9
"""Bytes a second: of the slowest card that can be used, and of PCIe 4.0."""


def bytes_of(size: int) -> torch.Tensor:
    return torch.zeros(size, dtype=torch.uint8)


def reads(*rates: float, first_pass: float = 1.0) -> list[float]:
    """What each of three passes over pieces takes that are read at `rates`, the first so many times as long."""
    return [*(first_pass / rate for rate in rates), *(1 / rate for _ in range(2) for rate in rates)]


@pytest.mark.parametrize(
    ("rates", "first_pass", "told"),
    [
        ((ON_CARD, ON_CARD, ON_CARD), 1.0, ""),
        ((ON_CARD, ON_CARD, ON_CARD), 9.0, ""),  # other work on the card
        ((ON_CARD, OVER_PCIE, ON_CARD), 1.0, "0.1 of 0.2 GiB are read at 25 GB/s"),
        ((OVER_PCIE, OVER_PCIE, OVER_PCIE), 1.0, "0.2 of 0.2 GiB are read at 25 GB/s"),
    ],
)
def test_a_piece_that_is_read_as_slowly_as_over_pcie_is_told(
    rates: tuple[float, ...], first_pass: float, told: str
) -> None:
    seconds = iter(reads(*rates, first_pass=first_pass))
    tensor = bytes_of(len(rates) * PIECE_BYTES)
    assert spilled([tensor], lambda piece: 4 * piece.numel() * next(seconds)) == told


def test_what_is_too_small_to_tell_is_left_out() -> None:
    small = [bytes_of(LEAST_BYTES - 1), bytes_of(2 * LEAST_BYTES).view(2, -1).T]
    assert spilled(small, lambda piece: 1e9) == ""


@pytest.mark.parametrize(
    ("release", "found"),
    [
        ("5.15.167.4-microsoft-standard-WSL2", True),
        ("4.4.0-19041-Microsoft", True),
        ("6.1.0-28-amd64", False),
        ("5.15.0-1073-azure", False),
    ],
)
def test_wsl_is_known_by_its_kernel(release: str, found: bool) -> None:
    assert is_wsl(release) is found
