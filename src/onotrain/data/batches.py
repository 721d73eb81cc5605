"""Global batches, and the slices that they are cut into."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Batch:
    """One global batch: the positions ``[begin, end)`` of the epoch."""

    begin: int
    end: int

    def __len__(self) -> int:
        return self.end - self.begin

    def slice(self, rank: int, size: int) -> Batch:
        """Return slice `rank` of `size` nearly equal ones; empty where there are more ranks than samples."""
        return Batch(self.begin + len(self) * rank // size, self.begin + len(self) * (rank + 1) // size)

    def micro_batches(self, count: int) -> Iterator[Batch]:
        """Cut the batch into `count` micro-batches, for gradient accumulation."""
        return (self.slice(index, count) for index in range(count))
