"""Where the keys of instructions are kept: a ring at the start of the KV pool, oldest overwritten first.

Pure bookkeeping; the runner computes and copies. Nothing here fails.
"""

from __future__ import annotations


class PrefixArea:
    """Offsets of the instructions that lie in positions [0, `num_positions`) of the pool, by their token ids."""

    def __init__(self, num_positions: int) -> None:
        self.num_positions = num_positions
        self._offsets: dict[tuple[int, ...], int] = {}
        self._cursor = 0

    def find(self, prefix_ids: tuple[int, ...]) -> int | None:
        return self._offsets.get(prefix_ids)

    def place(self, prefix_ids: tuple[int, ...]) -> int | None:
        """Make room for a prefix and return where it shall stand, or None if it is longer than the whole area.

        Whatever stood there is forgotten. Call `keep` once its keys are written.
        """
        length = len(prefix_ids)
        if length > self.num_positions:
            return None
        start = self._cursor if self._cursor + length <= self.num_positions else 0
        end = start + length
        overlapped = [ids for ids, offset in self._offsets.items() if offset < end and start < offset + len(ids)]
        for ids in overlapped:
            del self._offsets[ids]
        self._cursor = end
        return start

    def keep(self, prefix_ids: tuple[int, ...], offset: int) -> None:
        self._offsets[prefix_ids] = offset
