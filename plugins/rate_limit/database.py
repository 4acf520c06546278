"""The SQLite file of the shared counters: opened late, reopened after a fork or when it was removed.

Nothing in it is worth a disk's time: ``synchronous`` is off, which a killed process survives, and a machine
that loses power loses at most the counts of its last seconds.
"""

import os
import sqlite3
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from plugins.rate_limit.holders import Holder

_PATIENCE: Final = (
    1.0  # seconds that a transaction waits for the others before it counts as an outage
)
_LOOK_AGAIN: Final = (
    1.0  # seconds after which the file is looked for anew: it may have been removed
)
_SWEEP: Final = 30.0  # seconds between two removals of what nobody needs any more
_SWEPT: Final = 500  # rows removed at a time, so that nobody waits long
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_PRIMARY: Final = 0xFF  # the bits of an extended result code of SQLite that tell the primary one
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS windows (key BLOB PRIMARY KEY, cells BLOB, span REAL, until REAL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS places
    (key BLOB, call TEXT, holder TEXT, until REAL, PRIMARY KEY (key, call)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS clock (one INTEGER PRIMARY KEY, boot TEXT, offset REAL)
"""


class _Opened:
    """One connection, and what is known of the file it belongs to."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(
            path, timeout=0, isolation_level=None, check_same_thread=False
        )
        self.close = weakref.finalize(self, self.connection.close)
        # At its exit a forked child must not close what belongs to its parent.
        self.close.atexit = False
        path.chmod(0o600)
        self.process = os.getpid()
        self.file = _identity(path)
        self.looked = self.swept = time.monotonic()

    def prepare(self) -> None:
        """Make the tables, and agree with all other processes on a clock."""
        self.begin("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = OFF")
        self.begin()
        for statement in _TABLES.split(";"):
            self.connection.execute(statement)
        self.offset = self._anchored()
        self.connection.execute("COMMIT")

    def begin(self, statement: str = "BEGIN IMMEDIATE") -> None:
        """Run what others may keep waiting: SQLite's own waits begin at a millisecond."""
        if self._begun(statement, last=False):
            return
        deadline, pause = time.monotonic() + _PATIENCE, 0.0001
        while not self._begun(statement, last=time.monotonic() > deadline):
            time.sleep(pause)
            pause = min(0.002, pause * 1.5)

    def _begun(self, statement: str, *, last: bool) -> bool:
        try:
            self.connection.execute(statement)
        except sqlite3.OperationalError as error:
            if last or error.sqlite_errorcode & _PRIMARY != sqlite3.SQLITE_BUSY:
                raise
            return False
        return True

    def _anchored(self) -> float:
        """What to add to the monotonic clock: the same in every process, and no jump of the wall clock moves it.

        It is taken from the wall clock once a boot, so that a day's limit outlives a restart of the machine.
        """
        boot = _BOOT.read_text().strip() if _BOOT.exists() else ""
        row = self.connection.execute("SELECT boot, offset FROM clock").fetchone()
        if row and row[0] == boot:
            return float(row[1])
        offset = time.time() - time.monotonic()
        self.connection.execute("INSERT OR REPLACE INTO clock VALUES (1, ?, ?)", (boot, offset))
        return offset


class Database:
    """The file at ``path``, for all threads: ``with database as now`` is a transaction.

    It and its methods raise ``sqlite3.Error`` or ``OSError``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._now = 0.0
        self._opened: _Opened | None = None
        self._holders: dict[int, Holder] = {}
        self._inherited: list[_Opened] = []

    @property
    def holder(self) -> Holder:
        """This process, as the others see it; one for as long as it lives, whatever becomes of the file."""
        process = os.getpid()
        if process not in self._holders:
            self._holders[process] = Holder(self._path)
        return self._holders[process]

    def __enter__(self) -> float:
        """Begin a transaction that alone may write; its time, in seconds."""
        self._lock.acquire()
        try:
            opened = self._opened = self._followed()
            opened.begin()
            self._now = time.monotonic() + opened.offset
        except BaseException:
            self._forget()
            self._lock.release()
            raise
        return self._now

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Commit, or undo everything when something raised."""
        try:
            if error is not None:
                self._forget()
            elif self._opened is not None:
                self._sweep(self._opened, self._now)
                self._opened.connection.execute("COMMIT")
        except BaseException:
            self._forget()
            raise
        finally:
            self._lock.release()

    def run(self, statement: str, *values: Any) -> sqlite3.Cursor:
        """Run one statement of the transaction that is under way."""
        assert self._opened is not None  # noqa: S101 - only called inside of a transaction
        return self._opened.connection.execute(statement, values)

    def _followed(self) -> _Opened:
        """The open file, opened anew after a fork and when it is no longer the one at its path."""
        opened = self._opened
        if opened is not None and opened.process != os.getpid():
            # To close what belongs to the parent would disturb it.
            opened.close.detach()
            self._inherited.append(opened)
        elif opened is not None:
            if time.monotonic() - opened.looked < _LOOK_AGAIN:
                return opened
            opened.looked = time.monotonic()
            with suppress(OSError):
                if _identity(self._path) == opened.file:
                    return opened
            self._forget()
        fresh = self._opened = _Opened(self._path)
        try:
            fresh.prepare()
        except BaseException:
            self._forget()
            raise
        return fresh

    def _forget(self) -> None:
        """Close the file; a transaction that was under way is undone by that."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _sweep(self, opened: _Opened, now: float) -> None:
        if time.monotonic() - opened.swept < _SWEEP:
            return
        opened.swept = time.monotonic()
        old = "SELECT key FROM windows WHERE until < ? LIMIT ?"
        self.run(f"DELETE FROM windows WHERE key IN ({old})", now, _SWEPT)  # noqa: S608 - no value in it
        self.run("DELETE FROM places WHERE until < ?", now)
        self.holder.touch()


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino
