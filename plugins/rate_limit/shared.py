"""Counters that all worker processes of a machine share; a storage of the ``limits`` library.

Its own strategies work on it. The plugin takes all limits of a call in one transaction instead.
"""

import sqlite3
import time
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from limits.storage import MovingWindowSupport, Storage

from plugins.rate_limit.database import Database
from plugins.rate_limit.window import Correction, Demand, Taken, Window

SCHEME: Final = "outgate-shared"
_NO_LIMIT: Final = 2**62
_WRITE: Final = (
    "INSERT INTO windows VALUES (?, ?, ?, ?) ON CONFLICT (key)"
    " DO UPDATE SET cells = excluded.cells, span = excluded.span, until = excluded.until"
)
_HELD: Final = "SELECT holder, COUNT(*) FROM places WHERE key = ? AND until > ? GROUP BY holder"


class SharedStorage(Storage, MovingWindowSupport):
    """The file that ``outgate-shared:///path`` names; nothing is opened before it is used."""

    STORAGE_SCHEME = [SCHEME]  # noqa: RUF012 - the library's declaration
    errors: Final[tuple[type[Exception], ...]] = (sqlite3.Error, OSError)

    def __init__(self, uri: str, wrap_exceptions: bool = False, **_: Any) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        self._database = Database(Path(uri.removeprefix(f"{SCHEME}://")))

    def take(self, demands: Sequence[Demand], call: str, seconds: float) -> list[Taken]:
        """All of the demands or none; places come back when released, or after ``seconds`` at the latest."""
        with self._database.changing() as now:
            looked = [self._look(demand, now) for demand in demands]
            if all(taken.wait == 0 for taken, _ in looked):
                for demand, (_, window) in zip(demands, looked, strict=True):
                    if window is None:
                        self._sit(demand.key, call, now + seconds)
                    else:
                        self._write(demand, window, now)
        return [taken for taken, _ in looked]

    def settle(self, corrections: Iterable[Correction], call: str) -> None:
        """Correct amounts, and leave places."""
        with self._database.changing() as now:
            for demand, cell, excess in corrections:
                if not demand.span:
                    query = "DELETE FROM places WHERE key = ? AND call = ?"
                    self._database.run(query, demand.key, call)
                elif excess:
                    window = self._window(demand, now)
                    window.correct(cell, excess)
                    self._write(demand, window, now)

    def _look(self, demand: Demand, now: float) -> tuple[Taken, Window | None]:
        if not demand.span:
            return self._place(demand, now), None
        window = self._window(demand, now)
        return window.taken(demand), window

    def _window(self, demand: Demand, now: float) -> Window:
        query = "SELECT cells FROM windows WHERE key = ?"
        row = self._database.run(query, demand.key).fetchone()
        return Window(array("q", row[0] if row else b""), demand.span, now)

    def _write(self, demand: Demand, window: Window, now: float) -> None:
        until = now + window.reset()
        self._database.run(_WRITE, demand.key, window.cells.tobytes(), demand.span, until)

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
        with self._database.changing() as now:
            query = "SELECT cells, span FROM windows WHERE key = ?"
            row = self._database.run(query, key.encode()).fetchone()
        return Window(array("q", row[0]), row[1], now) if row else None

    def check(self) -> bool:
        """Whether the file can be written."""
        try:
            with self._database.changing():
                return True
        except self.errors:
            return False

    def reset(self) -> int:
        """Forget every window; how many there were."""
        with self._database.changing():
            return self._database.run("DELETE FROM windows").rowcount

    def clear(self, key: str) -> None:
        """Forget one window."""
        with self._database.changing():
            self._database.run("DELETE FROM windows WHERE key = ?", key.encode())
