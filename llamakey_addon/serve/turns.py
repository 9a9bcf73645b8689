"""Whose turn it is to accept: how many connections each worker has, in memory that all share.

Workers accept on the same sockets. Left alone, whoever wakes first would take a whole burst, and
keep it for as long as its clients keep their connections.
"""

from __future__ import annotations

import mmap
from typing import Final

_EMPTY: Final = 2**32 - 1
_BYTES: Final = 4


class Turns:
    """Seats of one generation of workers; made before they are."""

    def __init__(self, seats: int) -> None:
        self._counts = memoryview(mmap.mmap(-1, _BYTES * seats)).cast("I")
        for seat in range(seats):
            self._counts[seat] = _EMPTY

    def seat(self, number: int) -> Seat:
        """A worker's; empty until it tells how many it has."""
        return Seat(self._counts, number)


class Seat:
    """What one worker tells and sees."""

    def __init__(self, counts: memoryview[int], number: int) -> None:
        self._counts = counts
        self._number = number

    def tell(self, connections: int) -> None:
        """So many it has now."""
        self._counts[self._number] = connections

    def leave(self) -> None:
        """It accepts no more."""
        self._counts[self._number] = _EMPTY

    def is_ahead(self) -> bool:
        """Whether another has fewer, and should be first."""
        mine = self._counts[self._number]
        return any(count < mine for count in self._counts)
