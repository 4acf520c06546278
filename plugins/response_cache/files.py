"""Entries in one SQLite file that all worker processes of a machine share."""

import os
import sqlite3
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Final

_PATIENCE: Final = 0.25  # seconds for another process or thread
_LOOK_AGAIN: Final = (
    1.0  # seconds between two looks at whether the file is still the one at its path
)
_MOST_AT_ONCE: Final = 64  # entries that one writer throws out: whoever writes next does the rest
#: "OGCR": a file of another program is never written into.
_OURS: Final = 0x4F474352
_ADD: Final = "UPDATE sums SET entries = entries {0} 1, bytes = bytes {0} {1}.size"
_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS entries (place BLOB PRIMARY KEY, sealed BLOB, size INTEGER, until REAL)",
    "CREATE INDEX IF NOT EXISTS ends ON entries (until)",
    "CREATE TABLE IF NOT EXISTS sums (one INTEGER PRIMARY KEY, entries INTEGER, bytes INTEGER)",
    "INSERT OR IGNORE INTO sums VALUES (1, 0, 0)",
    f"CREATE TRIGGER IF NOT EXISTS kept AFTER INSERT ON entries BEGIN {_ADD.format('+', 'new')}; END",
    f"CREATE TRIGGER IF NOT EXISTS gone AFTER DELETE ON entries BEGIN {_ADD.format('-', 'old')}; END",
    f"PRAGMA application_id = {_OURS}",
)


class FileStorage:
    """The file at ``path``, opened at its first use; what ends first is thrown out when it is full.

    Its methods raise ``sqlite3.Error`` or ``OSError``.
    """

    errors: Final[tuple[type[Exception], ...]] = (sqlite3.Error, OSError)

    def __init__(self, path: Path, most_entries: int, most_total: int) -> None:
        self._most = most_entries, most_total
        # Whoever reads never waits for whoever writes, neither here nor in the file.
        self._reading = _Connection(path)
        self._writing = _Connection(path)

    def get(self, place: bytes, now: float) -> bytes | None:
        """What is kept there."""
        query = "SELECT sealed FROM entries WHERE place = ? AND until > ?"
        with self._reading as connection:
            row = connection.execute(query, (place, now)).fetchone()
        return row[0] if row else None

    def put(self, place: bytes, sealed: bytes, now: float, seconds: float) -> None:
        """Keep it there, instead of what was there before, for so many seconds."""
        with self._writing as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("DELETE FROM entries WHERE place = ?", (place,))
            row = place, sealed, len(sealed), now + seconds
            connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?)", row)
            self._make_room(connection, now)
            connection.execute("COMMIT")

    def _make_room(self, connection: sqlite3.Connection, now: float) -> None:
        first = "SELECT place, until FROM entries ORDER BY until LIMIT ?"
        for place, until in connection.execute(first, (_MOST_AT_ONCE,)).fetchall():
            entries, size = connection.execute("SELECT entries, bytes FROM sums").fetchone()
            if until > now and entries <= self._most[0] and size <= self._most[1]:
                return
            connection.execute("DELETE FROM entries WHERE place = ?", (place,))


class _Connection:
    """One connection for all threads of a process, opened anew after a fork and when the file was replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._opened: _Opened | None = None
        self._inherited: list[_Opened] = []

    def __enter__(self) -> sqlite3.Connection:
        if not self._lock.acquire(timeout=_PATIENCE):
            raise sqlite3.OperationalError("other threads of this process wait for it")
        try:
            self._opened = self._followed()
        except BaseException:
            self._lock.release()
            raise
        return self._opened.connection

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None:
                self._forget()
        finally:
            self._lock.release()

    def _followed(self) -> "_Opened":
        opened = self._opened
        if opened is not None and opened.process != os.getpid():
            # To close what belongs to the parent would disturb it.
            opened.close.detach()
            self._inherited.append(opened)
            self._opened = None
        elif opened is not None:
            if time.monotonic() - opened.looked < _LOOK_AGAIN:
                return opened
            opened.looked = time.monotonic()
            with suppress(OSError):
                if _identity(self._path) == opened.file:
                    return opened
            self._forget()
        return _Opened(self._path)

    def _forget(self) -> None:
        """Close the file; what was under way is undone by that."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None


class _Opened:
    def __init__(self, path: Path) -> None:
        # Nobody else reads which places there are; the files beside it get the same mode.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        self.connection = sqlite3.connect(
            path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
        )
        self.close = weakref.finalize(self, self.connection.close)
        # At its exit a forked child must not close what belongs to its parent.
        self.close.atexit = False
        self.process = os.getpid()
        self.file = _identity(path)
        self.looked = time.monotonic()
        try:
            self._prepare(path)
        except BaseException:
            self.close()
            raise

    def _prepare(self, path: Path) -> None:
        run = self.connection.execute
        (mark,) = run("PRAGMA application_id").fetchone()
        if mark == _OURS:
            run("PRAGMA synchronous = OFF")
            return
        if mark or run("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
            raise sqlite3.DatabaseError(
                f"{path} is a database of something else: name another file"
            )
        _use_wal(self.connection)
        run("PRAGMA synchronous = OFF")
        run("BEGIN IMMEDIATE")
        for statement in _TABLES:
            run(statement)
        run("COMMIT")


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to a write-ahead log; SQLite does not wait by itself while another process does the same."""
    deadline = time.monotonic() + _PATIENCE
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino
