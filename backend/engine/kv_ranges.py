"""Which positions of the KV pool are in use: contiguous ranges, handed out in whole blocks.

Pure bookkeeping: knows no tensor and no request. A freed range joins its free neighbours at once, so the pool is one
free range again when nothing runs. Searches look at every free range; there is at most one more than ranges in use.
"""

from __future__ import annotations

from bisect import bisect, insort


class KvRanges:
    """A pool of `num_tokens` positions, rounded down to blocks of `block_tokens`."""

    def __init__(self, num_tokens: int, block_tokens: int) -> None:
        self._block = block_tokens
        self.num_tokens = num_tokens - num_tokens % block_tokens
        self._free = [(0, self.num_tokens)] if self.num_tokens else []  # (start, end), ascending, never adjacent

    def rounded(self, num_tokens: int) -> int:
        """Length of the range that holds `num_tokens`."""
        return -(-num_tokens // self._block) * self._block

    def lowest(self, length: int, end: int) -> int | None:
        """Return the first offset with `length` free positions that lie below `end`, or None."""
        for start, stop in self._free:
            if min(stop, end) - start >= length:
                return start
        return None

    def highest(self, length: int, start: int) -> int | None:
        """Return the last offset with `length` free positions that begins at `start` or above it, or None."""
        for begin, stop in reversed(self._free):
            if stop - max(begin, start) >= length:
                return stop - length
        return None

    def take(self, offset: int, length: int) -> None:
        """Take a range that `lowest` or `highest` has just found."""
        place = bisect(self._free, (offset, self.num_tokens)) - 1
        start, stop = self._free[place]
        assert start <= offset < offset + length <= stop
        left = ((start, offset), (offset + length, stop))
        self._free[place : place + 1] = [part for part in left if part[0] < part[1]]

    def release(self, offset: int, length: int) -> None:
        """Give back a range that was taken, and join it with the free ranges beside it."""
        insort(self._free, (offset, offset + length))
        place = bisect(self._free, (offset, offset + length)) - 1
        if place + 1 < len(self._free) and self._free[place + 1][0] == offset + length:
            self._free[place : place + 2] = [(offset, self._free[place + 1][1])]
        if place > 0 and self._free[place - 1][1] == offset:
            self._free[place - 1 : place + 1] = [(self._free[place - 1][0], self._free[place][1])]
