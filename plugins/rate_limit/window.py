"""How much of a limit was used within a span of time that moves on, in a bounded number of cells."""

import math
from array import array
from typing import Final, NamedTuple

from msgspec import Struct

#: A span is counted in so many cells; what one of them holds is forgotten when all of it is older than the span.
CELLS: Final = 60


class Demand(Struct, frozen=True):
    """``amount`` of what ``key`` counts, of which ``limit`` may be used within ``span`` seconds.

    A span of 0 is a place, held until the call ends.
    """

    key: bytes
    limit: int
    amount: int = 1
    span: float = 0.0


class Taken(Struct, frozen=True):
    """What became of a demand.

    ``wait`` is the time in seconds until it would fit: 0 when it does, infinite when it never will.
    ``used`` counts what it took, ``reset`` is the time until nothing counts any more, ``cell`` where it was put.
    """

    wait: float
    used: int
    reset: float = 0.0
    cell: int = 0


class Correction(NamedTuple):
    """What is known of a demand when its call is over: ``excess`` is what was used beyond its amount.

    A demand for a place has none, and gives its place back.
    """

    demand: Demand
    cell: int
    excess: int


class Window:
    """The cells of one key: pairs of a cell's number and the amount in it, oldest first.

    No span of time, wherever it begins, ever holds more than the limit. The price is that a place comes
    back up to one cell (a sixtieth of the span) later than it would have to.
    """

    def __init__(self, cells: "array[int]", span: float, now: float) -> None:
        self.cells = cells
        self.span = span
        self._width = span / CELLS
        self._now = now
        self.cell = int(now / self._width)
        if cells and (cells[0] < self.cell - CELLS or cells[-2] > self.cell):
            self._forget(self.cell - CELLS)

    def _forget(self, oldest: int) -> None:
        cells, gone = self.cells, 0
        while gone < len(cells) and cells[gone] < oldest:
            gone += 2
        del cells[:gone]
        ahead = 0
        while cells and cells[-2] > self.cell:
            # The clock was set back. What was used counts as used now, rather than for hours or not at all.
            ahead += cells.pop()
            cells.pop()
        if ahead:
            self.add(ahead)

    @property
    def used(self) -> int:
        """What counts now."""
        return sum(self.cells[1::2])

    def add(self, amount: int) -> None:
        """Count ``amount`` from now on."""
        cells = self.cells
        if cells and cells[-2] == self.cell:
            cells[-1] += amount
        else:
            cells.extend((self.cell, amount))

    def correct(self, cell: int, excess: int) -> None:
        """Count what was used beyond a demand from now on, or take what was not out of the cell it is in."""
        if excess > 0:
            self.add(excess)
            return
        for at in range(0, len(self.cells), 2):
            if self.cells[at] == cell:
                self.cells[at + 1] += excess
                if self.cells[at + 1] <= 0:
                    del self.cells[at : at + 2]
                return

    def wait(self, limit: int, amount: int) -> float:
        """Seconds until ``amount`` fits under ``limit``."""
        return self._wait(self.used + amount - limit)

    def _wait(self, over: int) -> float:
        """Seconds until ``over`` of what was used is forgotten."""
        if over <= 0:
            return 0.0
        for at in range(0, len(self.cells), 2):
            over -= self.cells[at + 1]
            if over <= 0:
                return self._end(self.cells[at])
        return math.inf

    def reset(self) -> float:
        """Seconds until nothing counts any more."""
        return self._end(self.cells[-2]) if self.cells else 0.0

    def _end(self, cell: int) -> float:
        return max(0.0, (cell + CELLS + 1) * self._width - self._now)

    def taken(self, demand: Demand) -> Taken:
        """Count the demand if it fits."""
        used = sum(self.cells[1::2]) + demand.amount
        if used <= demand.limit:
            self.add(demand.amount)
            return Taken(0.0, used, self._end(self.cell), self.cell)
        wait = self._wait(used - demand.limit)
        return Taken(wait, used - demand.amount, self.reset(), self.cell)
