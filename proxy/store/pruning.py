"""Removes what is older than ``store.keep_usage``: hours of the usage book, and purses of periods long over."""

import logging
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from proxy.store import schema
from proxy.store.engine import Database
from proxy.store.entries import HOUR
from proxy.store.usage import LABELS, dialect

log: Final = logging.getLogger("outgate.store")
#: Rows of each kind that one step removes, so that nobody waits long for it.
STEP: Final = 500
#: Seconds until the next step, while there is more to remove and when there is not.
_SOON: Final = 60
_LATER: Final = 3600
#: After a day or month has ended by UTC, it has in every time zone.
_ZONES: Final = timedelta(days=2)

_HOUR: Final = ("hour", *LABELS)
_PURSE: Final = ("budget", "subject", "period", "unit")
_OLD_HOURS: Final = (
    f"SELECT {', '.join(_HOUR)} FROM {schema.usage.name} WHERE hour < ? ORDER BY hour LIMIT {STEP}"  # noqa: S608
)
_OLD_PURSES: Final = (
    f"SELECT {', '.join(_PURSE)} FROM {schema.purses.name} WHERE reserved = 0 AND"  # noqa: S608
    f" ((period LIKE '____-__-__' AND period < ?) OR (period LIKE '____-__' AND period < ?)) LIMIT {STEP}"
)
_DROP_HOUR: Final = (
    f"DELETE FROM {schema.usage.name} WHERE {' AND '.join(f'{name} = ?' for name in _HOUR)}"  # noqa: S608
)
_DROP_PURSE: Final = (
    f"DELETE FROM {schema.purses.name} WHERE reserved = 0"  # noqa: S608
    f" AND {' AND '.join(f'{name} = ?' for name in _PURSE)}"
)
#: Whoever changes the number has the turn; the others find that it is that of this minute already.
_TURN: Final = (
    f"INSERT INTO {schema.changes.name} AS c (subject, number) VALUES ('pruned', ?)"  # noqa: S608
    " ON CONFLICT (subject) DO UPDATE SET number = excluded.number WHERE c.number <> excluded.number"
)


class Pruning:
    """What the heartbeat of every process does now and then; ``keep`` is seconds, None keeps everything.

    A purse goes only when its period, a day or a month by its name, has ended ``keep`` ago in every time zone and
    nothing is reserved in it.
    """

    def __init__(self, database: Database, keep: int | None) -> None:
        self._database = database
        self._keep = keep
        self._began = time.time() - time.monotonic()
        self._next = 0.0

    def step(self) -> int:
        """Remove some rows if it is time to, and say how many. Raises ``Unavailable``."""
        if self._keep is None or time.monotonic() < self._next:
            return 0
        self._next = time.monotonic() + _SOON
        # A clock that was set forward since must not make anything old.
        now = min(time.time(), self._began + time.monotonic())
        hours, purses = self._old(now - self._keep)
        if (hours or purses) and self._removed(hours, purses, int(now) // _SOON):
            log.info(
                "store: removed %d rows of usage and %d purses, older than store.keep_usage",
                len(hours),
                len(purses),
            )
        if max(len(hours), len(purses)) < STEP:
            self._next = time.monotonic() + _LATER
        return len(hours) + len(purses)

    def _old(self, moment: float) -> tuple[list[Any], list[Any]]:
        ended = datetime.fromtimestamp(max(0, moment), UTC) - _ZONES
        with self._database.driver(write=False) as raw:
            hours = raw.execute(self._sql(_OLD_HOURS), (int(moment) // HOUR * HOUR,)).fetchall()
            days = (f"{ended:%Y-%m-%d}", f"{ended:%Y-%m}")
            return hours, raw.execute(self._sql(_OLD_PURSES), days).fetchall()

    def _removed(self, hours: list[Any], purses: list[Any], minute: int) -> bool:
        """Whether it was the turn of this process."""
        with self._database.driver(write=True) as raw:
            if raw.execute(self._sql(_TURN), (minute,)).rowcount != 1:
                return False
            cursor = raw.cursor()
            if hours:
                cursor.executemany(self._sql(_DROP_HOUR), hours)
            if purses:
                cursor.executemany(self._sql(_DROP_PURSE), purses)
        return True

    def _sql(self, text: str) -> str:
        return dialect(self._database, text)
