"""Lines that go to the disk together, and those who wait for them."""

import threading
from typing import Final

from proxy.audit.segment import Mark

#: Outcomes that wait in memory for a disk that takes them again; the oldest go first.
MOST_WAITING: Final = 10_000


class Item:
    """A line that is not durable yet; ``where`` is the intent that an outcome belongs to."""

    __slots__ = ("body", "id", "kind", "where")

    def __init__(self, kind: str, body: bytes, id_: str | None, where: Mark | None = None) -> None:
        self.kind, self.body, self.id, self.where = kind, body, id_, where


class Batch:
    """Lines that are written with one call. The first who waits for it writes it, and opens the others' gates."""

    __slots__ = ("born", "done", "fault", "gates", "items", "lines", "waiters")

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.items: list[Item] = []
        self.gates: list[threading.Lock] = []
        self.waiters = 0
        self.born: float | None = None
        self.done = False
        self.fault: str | None = None

    def join(self) -> "threading.Lock | None":
        """Wait for this batch, too: ``None`` makes the caller its writer."""
        self.waiters += 1
        if self.waiters == 1:
            return None
        gate = threading.Lock()
        gate.acquire()
        self.gates.append(gate)
        return gate

    def finish(self, fault: str | None = None) -> None:
        """Tell everybody who waits that it is written, or why not."""
        self.fault, self.done = fault, True
        for gate in self.gates:
            gate.release()
