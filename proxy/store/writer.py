"""SQLite's one writer of a process: a connection that stays open, and threads that take turns on it."""

import sqlite3
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

from sqlalchemy import exc

#: Seconds a transaction waits for others; below the deadline of a hook, so that the answer is a clear 503.
PATIENCE: Final = 2.0
_SHORTEST_PAUSE: Final = 0.0001
_LONGEST_PAUSE: Final = 0.002
#: Pages in SQLite's log at which a commit has to empty it; a thread does so long before (``checkpoint``).
_LONGEST_LOG: Final = 10_000
_PRIMARY: Final = 0xFF  # the bits of an extended result code of SQLite that tell the primary one


class Writer:
    """``with writer as raw:`` is a transaction that commits at its end, or not at all when anything raises.

    ``connect`` gives a connection of the pool, which is kept: to check one out for every transaction costs as
    much as the transaction. ``report`` raises what becomes of an error of the driver.
    """

    def __init__(
        self,
        turn: threading.Lock,
        connect: Callable[[], Any],
        report: Callable[[BaseException], None],
    ) -> None:
        self._turn = turn
        self._connect = connect
        self._report = report
        self._held: Any = None
        self._raw: Any = None

    def __enter__(self) -> Any:
        # SQLite's own waiting sleeps longer than a transaction takes.
        if not self._turn.acquire(timeout=PATIENCE):
            self._report(exc.TimeoutError("other threads of this process are writing"))
        try:
            raw = self._raw or self._connected()
            begin(raw)
        except BaseException as error:
            self._drop()
            self._turn.release()
            self._report(error)
            raise
        return raw

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._raw.execute("COMMIT")
            elif isinstance(error, sqlite3.Error):
                self._drop()
            else:
                self._raw.rollback()
        except BaseException as failure:
            self._drop()
            self._report(failure)
            raise
        finally:
            self._turn.release()
        if error is not None:
            self._report(error)

    def close(self) -> None:
        """Close the connection; the next transaction opens another."""
        with self._turn:
            self._drop()

    def _connected(self) -> Any:
        self._held = self._connect()
        self._raw = self._held.driver_connection
        # Waiting is done here, in shorter steps.
        self._raw.execute("PRAGMA busy_timeout = 0")
        self._raw.execute(f"PRAGMA wal_autocheckpoint = {_LONGEST_LOG}")
        return self._raw

    def _drop(self) -> None:
        """A transaction that was under way is undone by this."""
        held, self._held, self._raw = self._held, None, None
        if held is not None:
            held.invalidate()
            held.close()


def begin(raw: sqlite3.Connection) -> None:
    """Begin a transaction that may write, as soon as no other process does."""
    try:
        raw.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if not _is_busy(error):
            raise
        _wait(raw)


def _wait(raw: sqlite3.Connection) -> None:
    deadline, pause = time.monotonic() + PATIENCE, _SHORTEST_PAUSE
    while True:
        time.sleep(pause)
        pause = min(_LONGEST_PAUSE, pause * 1.5)
        try:
            raw.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or time.monotonic() > deadline:
                raise
        else:
            return


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & _PRIMARY == sqlite3.SQLITE_BUSY
