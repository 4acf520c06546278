"""Settles calls behind their answers: many of them in one transaction, a moment after they are over."""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any, Final

import msgspec
from msgspec import Struct

from proxy.errors import Unavailable
from proxy.store.engine import Database
from proxy.store.entries import Charge, Counts, Labels, Purse, Used
from proxy.store.ledger_sql import Statements
from proxy.store.usage import UsageBook
from proxy.store.writer import PATIENCE

log: Final = logging.getLogger("outgate.store")
#: Seconds for which calls that are over are gathered. A process that is killed in them loses what they cost.
PAUSE: Final = 0.02
#: Seconds until a database that was away is tried again.
_RETRY: Final = 0.5
#: Seconds between two looks at SQLite's log, which grows with every call.
_CHECKPOINT: Final = 1.0
#: Settlements of one transaction: callers wait for it no longer than for each other.
_MOST_TOGETHER: Final = 64
#: Settlements kept in memory while the database is away; calls that take from no purse go on meanwhile.
_MOST_LATE: Final = 100_000


class Entry(Struct, frozen=True, array_like=True):
    """What the row of a reservation says, for whoever has to give it back."""

    hour: int
    labels: Labels
    charges: tuple[Charge, ...]

    def amounts(self) -> Counter[Purse]:
        """What it holds of each purse."""
        held: Counter[Purse] = Counter()
        for charge in self.charges:
            held[charge.purse()] += charge.amount
        return held


class Reservation(Struct, frozen=True):
    """What a call had reserved, as its row said: ``returned`` is when that was given back, if it was."""

    returned: int | None
    entry: bytes

    def read(self) -> Entry:
        """Whose it is, and what it holds, or held."""
        return msgspec.json.decode(self.entry, type=Entry)

    def amounts(self) -> Counter[Purse]:
        """What it still holds of each purse."""
        return Counter() if self.returned is not None else self.read().amounts()


class Settlement(Struct, frozen=True):
    """What a call came to; ``unsure`` whether it had reserved anything."""

    call: str
    charges: tuple[Charge, ...]
    spent: Mapping[str, int]
    used: Used
    unsure: bool


class Settling:
    """What a process has still to settle. Until it is written, what was reserved for it is held back."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = Statements(database)
        self._book = UsageBook(database)
        self._waiting: deque[Settlement] = deque()
        self._together = _MOST_TOGETHER
        self._pause = PAUSE
        self._checkpointed = time.monotonic()
        self._writing = threading.Lock()
        self._starting = threading.Lock()
        self._more = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def waits(self) -> bool:
        """Whether anything is not written yet."""
        return bool(self._waiting)

    def put(self, settlement: Settlement) -> None:
        """Have a call settled in a moment; never waits, never raises."""
        if len(self._waiting) >= _MOST_LATE:
            log.error(
                "store: too many settlements wait for the database; that of %s is lost",
                settlement.call,
            )
            return
        self._waiting.append(settlement)
        # While the thread gathers, this wakes nobody.
        if not self._more.is_set():
            self._more.set()
        if self._thread is None:
            self._start()
        if self._ended.is_set():
            with suppress(Unavailable):  # nobody comes after us
                self.flush()

    def flush(self) -> None:
        """Write everything that waits. Raises ``Unavailable``, and then it goes on waiting."""
        with self._alone():
            while self._waiting:
                self._write_some()
            self._together = _MOST_TOGETHER

    def close(self) -> int:
        """End the thread and write what waits; returns how many settlements could not be written."""
        self._ended.set()
        self._more.set()
        if self._thread not in (None, threading.current_thread()):
            self._thread.join(PATIENCE + 5)
        with suppress(Unavailable):  # the log has it
            self.flush()
        return len(self._waiting)

    # -- the thread --------------------------------------------------------------------------------

    def _start(self) -> None:
        with self._starting:
            if self._thread is None and not self._ended.is_set():
                thread = threading.Thread(target=self._run, name="outgate-settling", daemon=True)
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        while not self._ended.is_set():
            self._more.wait()
            self._more.clear()
            self._ended.wait(self._pause)
            try:
                self.flush()
                if time.monotonic() - self._checkpointed >= _CHECKPOINT:
                    self._checkpointed = time.monotonic()
                    self._database.checkpoint()
            except Exception as error:
                if not isinstance(error, Unavailable):  # of that, the log has it
                    log.exception("store: the settling failed and is tried again")
                self._more.set()
                self._ended.wait(_RETRY)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._writing.acquire(timeout=2 * PATIENCE):
            raise Unavailable("The store of this gateway does not answer; try again.")
        try:
            yield
        finally:
            self._writing.release()

    def _write_some(self) -> None:
        group = list(islice(self._waiting, self._together))
        try:
            self._write(group)
        except Unavailable:
            # Should one of them be at fault and not the database, it is found, and does not hold up the others.
            self._together = 1
            if len(group) == 1:
                self._waiting.rotate(-1)
            raise
        except Exception:
            if len(group) > 1:
                self._together = 1
                return
            log.exception("store: the settlement of %s cannot be written", group[0].call)
        else:
            self._together = min(2 * self._together, _MOST_TOGETHER)
        for _ in group:
            self._waiting.popleft()

    # -- the transaction ---------------------------------------------------------------------------

    def _write(self, group: Sequence[Settlement]) -> None:
        several: list[Used] = []
        #: Of each purse: what was spent, and what is no longer reserved.
        purses: dict[Purse, list[int]] = {}
        with self._database.driver(write=True) as raw:
            there = self._dropped(raw, [each.call for each in group if each.charges or each.unsure])
            for each in group:
                row = there.pop(each.call, None)
                if each.charges and row is None and not each.unsure:
                    continue  # the second time
                if row is not None and row.returned is not None:
                    # Its process was taken for dead, but it was only slow: the money is spent.
                    several.append(abandoned(row.read(), -1))
                for charge in each.charges:
                    purses.setdefault(charge.purse(), [0, 0])[0] += each.spent.get(charge.unit, 0)
                # The row knows better than the caller, whose last reservation may have failed or not.
                for purse, amount in (row.amounts() if row is not None else {}).items():
                    purses.setdefault(purse, [0, 0])[1] += amount
                several.append(each.used)
            for purse, (spent, released) in sorted(purses.items()):
                raw.execute(self._sql.pay, (*purse, spent, -released))
            self._book.write(raw, several)

    def _dropped(self, raw: Any, calls: list[str]) -> dict[str, Reservation]:
        """Take the reservations of these calls away: those that there were."""
        if not self._database.is_sqlite:
            rows = raw.execute(self._sql.drop, (calls,)).fetchall()
        else:
            # One by one: no round trips are saved, and a list costs more than looking several up.
            found = (raw.execute(self._sql.drop, (call,)).fetchone() for call in calls)
            rows = [row for row in found if row is not None]
        return {call: Reservation(returned, entry) for call, returned, entry in rows}


def abandoned(entry: Entry, count: int) -> Used:
    """How calls that died are counted, or no longer counted when they come back."""
    return Used(entry.hour, entry.labels, Counts(calls=count, abandoned=count))
