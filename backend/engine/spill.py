"""Whether weights or KV cache lie in the machine's memory instead of the card's: in WSL, Windows' driver moves there
what does not fit, and says nothing. Each step then reads them over PCIe, and takes several times as long.

So each piece of them is read once: no card that can be used reads its own memory as slowly as PCIe carries it at best.
What is moved later, when a program of Windows takes memory, is not seen. Raises what a card raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch

from model_loader.memory import GIB

PIECE_BYTES = 64 * 2**20
LEAST_BYTES = 16 * 2**20
"""What is smaller is over before a clock tells much."""
SLOWEST_BYTES_PER_S = 80e9
"""PCIe 5.0 with 16 lanes carries 63 GB/s, an RTX 3050's memory 168."""
PASSES = 3

Seconds = Callable[[torch.Tensor], float]


def spilled(tensors: Iterable[torch.Tensor], seconds: Seconds | None = None) -> str:
    """How much of `tensors` is read as slowly as what is not on the card, "" where nothing is.

    `seconds`: how long reading a piece takes; all are read before one is read again, so that no cache holds it.
    """
    pieces = [piece for tensor in tensors for piece in _pieces(tensor)]
    sizes = [piece.numel() * piece.element_size() for piece in pieces]
    passes = [[(seconds or _seconds_on_card)(piece) for piece in pieces] for _ in range(PASSES)]
    took_s = [min(of_piece) for of_piece in zip(*passes, strict=True)]
    slow = [(size, s) for size, s in zip(sizes, took_s, strict=True) if size < SLOWEST_BYTES_PER_S * s]
    return _told(slow, sum(sizes)) if slow else ""


def _told(slow: list[tuple[int, float]], all_bytes: int) -> str:
    slow_bytes, slow_s = sum(size for size, _ in slow), sum(s for _, s in slow)
    return f"{slow_bytes / GIB:.1f} of {all_bytes / GIB:.1f} GiB are read at {slow_bytes / slow_s / 1e9:.0f} GB/s"


def _pieces(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """Of its memory, as bytes, in fours: [N]."""
    if not tensor.is_contiguous() or tensor.numel() * tensor.element_size() < LEAST_BYTES:
        return
    whole = tensor.detach().view(-1).view(torch.uint8)
    words = whole[: whole.numel() // 4 * 4].view(torch.int32)
    pieces = (words[first : first + PIECE_BYTES // 4] for first in range(0, len(words), PIECE_BYTES // 4))
    yield from (piece for piece in pieces if 4 * piece.numel() >= LEAST_BYTES)


def _seconds_on_card(piece: torch.Tensor) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    begin.record()
    piece.sum()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1000
