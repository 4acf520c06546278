"""Counters that all worker processes of a machine share; a storage of the ``limits`` library.

Its own strategies work on it. The plugin takes all limits of a call in one transaction instead.
"""

import hashlib
import time
from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from struct import Struct
from typing import Any, Final

import lmdb
from limits.storage import MovingWindowSupport, Storage

from plugins.rate_limit.database import UNTIL, Database
from plugins.rate_limit.later import Later
from plugins.rate_limit.window import Correction, Demand, Taken, Window

SCHEME: Final = "outgate-shared"
_NO_LIMIT: Final = 2**62
_PLACE: Final = b"p"
_WINDOW: Final = b"w"
#: Of a window: until when it is needed at most, and its span; its cells follow.
_HEAD: Final = Struct("=dd")
#: Longer keys and ids of calls stand as a digest: LMDB takes keys of up to 511 bytes.
_LONGEST: Final = 128
#: Corrections of one transaction, and those that are kept while the file cannot be written: then the guess stays.
_MOST_TOGETHER: Final = 100
_MOST_LATE: Final = 10_000
_RETRY: Final = 1.0


class SharedStorage(Storage, MovingWindowSupport):
    """The file that ``outgate-shared:///path`` names; nothing is opened before it is used."""

    STORAGE_SCHEME = [SCHEME]  # noqa: RUF012 - the library's declaration
    errors: Final[tuple[type[Exception], ...]] = (lmdb.Error, OSError)

    def __init__(self, uri: str, wrap_exceptions: bool = False, **_: Any) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        self._database = Database.at(Path(uri.removeprefix(f"{SCHEME}://")))
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
                    self._database.records.delete(_place_key(key, call))
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
        records = self._database.records
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
            head = _HEAD.pack(now + 2 * window.span, window.span)
            records.put(_window_key(key), head + window.cells.tobytes())
        return found

    def _window(self, windows: dict[bytes, Window], demand: Demand, now: float) -> Window:
        """That of the demand, read at its first use in a transaction."""
        window = windows.get(demand.key)
        if window is None:
            kept = self._database.records.get(_window_key(demand.key), b"")
            cells = array("q", kept[_HEAD.size :])
            window = windows[demand.key] = Window(cells, demand.span, now)
        return window

    def _place(self, demand: Demand, now: float) -> Taken:
        held = self._held(demand.key, now)
        used = len(held)
        if used >= demand.limit:
            # Only now: to ask after every holder each time would cost more than all the rest.
            used -= self._buried(held)
        fits = used < demand.limit
        return Taken(0.0 if fits else 1.0, used + fits)

    def _held(self, key: bytes, now: float) -> list[tuple[bytes, bytes]]:
        """The record and the holder of every place that is held."""
        found, places = [], _place_key(key)
        with self._database.records.cursor() as cursor:
            cursor.set_range(places)
            for record, value in cursor:
                if not record.startswith(places):
                    break
                if UNTIL.unpack_from(value)[0] > now:
                    found.append((record, value[UNTIL.size :]))
        return found

    def _buried(self, held: Sequence[tuple[bytes, bytes]]) -> int:
        """Free the places of those who died; how many that are."""
        is_alive = self._database.holder.is_alive
        dead = {holder for _, holder in held if not is_alive(holder.decode())}
        freed = [record for record, holder in held if holder in dead]
        for record in freed:
            self._database.records.delete(record)
        return len(freed)

    def _sit(self, key: bytes, call: str, until: float) -> None:
        holder = self._database.holder.name.encode()
        self._database.records.put(_place_key(key, call), UNTIL.pack(until) + holder)

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
            kept = self._database.records.get(_window_key(key.encode()))
        if kept is None:
            return None
        _, span = _HEAD.unpack_from(kept)
        return Window(array("q", kept[_HEAD.size :]), span, now)

    def check(self) -> bool:
        """Whether the file can be written."""
        try:
            with self._database:
                return True
        except self.errors:
            return False

    def reset(self) -> int:
        """Forget every window; how many there were."""
        count = 0
        with self._database, self._database.records.cursor() as cursor:
            cursor.set_range(_WINDOW)
            while cursor.key().startswith(_WINDOW):
                cursor.delete()
                count += 1
        return count

    def clear(self, key: str) -> None:
        """Forget one window."""
        with self._database:
            self._database.records.delete(_window_key(key.encode()))


@lru_cache(4096)
def _window_key(key: bytes) -> bytes:
    """Where the window of a key is."""
    return _WINDOW + _short(key)


def _place_key(key: bytes, call: str = "") -> bytes:
    """Where the place of a call is; without a call, what the places of the key begin with."""
    short = _short(key)
    return b"%b%c%b%b" % (_PLACE, len(short), short, _short(call.encode(errors="surrogatepass")))


def _short(name: bytes) -> bytes:
    return name if len(name) <= _LONGEST else hashlib.blake2b(name, digest_size=32).digest()
