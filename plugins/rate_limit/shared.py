"""Counters that all worker processes of a machine share; a storage of the ``limits`` library.

Its own strategies work on it. The plugin takes all limits of a call in one transaction instead.
"""

import sqlite3
import time
from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from limits.storage import MovingWindowSupport, Storage

from plugins.rate_limit.database import Database
from plugins.rate_limit.later import Later
from plugins.rate_limit.window import Correction, Demand, Taken, Window

SCHEME: Final = "outgate-shared"
_NO_LIMIT: Final = 2**62
#: One row at a time: to look for several at once takes SQLite longer.
_READ: Final = "SELECT cells FROM windows WHERE key = ?"
_WRITE: Final = (
    "INSERT INTO windows VALUES (?, ?, ?, ?) ON CONFLICT (key)"
    " DO UPDATE SET cells = excluded.cells, span = excluded.span, until = excluded.until"
)
#: Corrections of one transaction, and those that are kept while the file cannot be written: then the guess stays.
_MOST_TOGETHER: Final = 100
_MOST_LATE: Final = 10_000
_RETRY: Final = 1.0
_HELD: Final = "SELECT holder, COUNT(*) FROM places WHERE key = ? AND until > ? GROUP BY holder"


class SharedStorage(Storage, MovingWindowSupport):
    """The file that ``outgate-shared:///path`` names; nothing is opened before it is used."""

    STORAGE_SCHEME = [SCHEME]  # noqa: RUF012 - the library's declaration
    errors: Final[tuple[type[Exception], ...]] = (sqlite3.Error, OSError)

    def __init__(self, uri: str, wrap_exceptions: bool = False, **_: Any) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        self._database = Database(Path(uri.removeprefix(f"{SCHEME}://")))
        self._late: deque[Correction] = deque(maxlen=_MOST_LATE)
        self._later = Later(self._catch_up)

    def take(self, demands: Sequence[Demand], call: str, seconds: float) -> list[Taken]:
        """All of the demands or none; places come back when released, or after ``seconds`` at the latest."""
        late = self._late
        due: list[Correction] = []
        try:
            with self._database as now:
                while late and len(due) < _MOST_TOGETHER:
                    due.append(late.popleft())
                return self._taken(demands, due, call, now, now + seconds)
        except BaseException:
            late.extendleft(reversed(due))  # they stay due
            raise

    def settle(self, corrections: Iterable[Correction], call: str) -> None:
        """Leave places, and correct amounts: those with the next transaction, or in a moment."""
        left = []
        for correction in corrections:
            if not correction.demand.span:
                left.append(correction.demand.key)
            elif correction.excess:
                self._late.append(correction)
        if left:
            # At once: the caller's next call may need the place.
            with self._database:
                for key in left:
                    query = "DELETE FROM places WHERE key = ? AND call = ?"
                    self._database.run(query, key, call)
        if self._late:
            self._later.soon()

    def flush(self) -> None:
        """Correct what calls that are over have used."""
        while self._late:
            self.take((), "", 0)

    def _catch_up(self) -> float:
        try:
            self.flush()
        except self.errors:
            self._later.soon()
            return _RETRY  # the next call that needs the file says so
        return 0.0

    def _taken(
        self,
        demands: Sequence[Demand],
        due: Sequence[Correction],
        call: str,
        now: float,
        until: float,
    ) -> list[Taken]:
        windows: dict[bytes, Window] = {}
        changed = set()
        for demand, cell, excess in due:
            self._window(windows, demand, now).correct(cell, excess)
            changed.add(demand.key)
        found = [
            self._window(windows, demand, now).taken(demand)
            if demand.span
            else self._place(demand, now)
            for demand in demands
        ]
        fits = all(taken.wait == 0 for taken in found)
        for demand, taken in zip(demands, found, strict=True):
            if fits and demand.span:
                changed.add(demand.key)
            elif fits:
                self._sit(demand.key, call, until)
            elif demand.span and taken.wait == 0:
                windows[demand.key].correct(taken.cell, -demand.amount)
        for key in changed:
            window = windows[key]
            values = (key, window.cells.tobytes(), window.span, now + window.reset())
            self._database.run(_WRITE, *values)
        return found

    def _window(self, windows: dict[bytes, Window], demand: Demand, now: float) -> Window:
        """That of the demand, read at its first use in a transaction."""
        window = windows.get(demand.key)
        if window is None:
            row = self._database.run(_READ, demand.key).fetchone()
            cells = array("q", row[0] if row else b"")
            window = windows[demand.key] = Window(cells, demand.span, now)
        return window

    def _place(self, demand: Demand, now: float) -> Taken:
        held = self._database.run(_HELD, demand.key, now).fetchall()
        used = sum(count for _, count in held)
        if used >= demand.limit:
            # Only now: to ask after every holder each time would cost more than all the rest.
            used -= sum(count for holder, count in held if self._is_buried(holder))
        fits = used < demand.limit
        return Taken(0.0 if fits else 1.0, used + fits)

    def _is_buried(self, holder: str) -> bool:
        """Whether the holder died; its places are free then."""
        if self._database.holder.is_alive(holder):
            return False
        self._database.run("DELETE FROM places WHERE holder = ?", holder)
        return True

    def _sit(self, key: bytes, call: str, until: float) -> None:
        name = self._database.holder.name
        self._database.run(
            "INSERT OR REPLACE INTO places VALUES (?, ?, ?, ?)", key, call, name, until
        )

    # -- what the library's own strategies ask of a storage -----------------------------------------

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        """What ``wrap_exceptions`` wraps."""
        return self.errors

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Whether ``amount`` fitted into the moving window."""
        return self.take([Demand(key.encode(), limit, amount, expiry)], "", 0)[0].wait == 0

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:  # noqa: ARG002
        """When the window began, by the wall clock, and what is in it."""
        found = self._found(key)
        if found is None:
            return time.time(), 0
        return time.time() + found.reset() - expiry, found.used

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count ``amount`` whatever was counted before."""
        return self.take([Demand(key.encode(), _NO_LIMIT, amount, expiry)], "", 0)[0].used

    def get(self, key: str) -> int:
        """What counts at the moment."""
        found = self._found(key)
        return found.used if found else 0

    def get_expiry(self, key: str) -> float:
        """When nothing counts any more, by the wall clock."""
        found = self._found(key)
        return time.time() + (found.reset() if found else 0.0)

    def _found(self, key: str) -> Window | None:
        with self._database as now:
            query = "SELECT cells, span FROM windows WHERE key = ?"
            row = self._database.run(query, key.encode()).fetchone()
        return Window(array("q", row[0]), row[1], now) if row else None

    def check(self) -> bool:
        """Whether the file can be written."""
        try:
            with self._database:
                return True
        except self.errors:
            return False

    def reset(self) -> int:
        """Forget every window; how many there were."""
        with self._database:
            return self._database.run("DELETE FROM windows").rowcount

    def clear(self, key: str) -> None:
        """Forget one window."""
        with self._database:
            self._database.run("DELETE FROM windows WHERE key = ?", key.encode())
