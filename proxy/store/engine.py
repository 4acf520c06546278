"""The database behind the store: connections, transactions, and what is said when it does not answer."""

import logging
import os
import select
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import URL, make_url

from proxy.errors import ConfigError, Unavailable
from proxy.secret import Secret
from proxy.store import migrations
from proxy.store.table import SQLITE
from proxy.store.writer import PATIENCE, Writer

log: Final = logging.getLogger("outgate.store")
_RETRY_AFTER: Final = 5
_BEGIN: Final = "outgate_begin"
_SECONDS_BETWEEN_LINES: Final = 5.0
#: Connections of a process. SQLite has one writer at a time, who keeps one, and its reads take microseconds.
_CONNECTIONS: Final = 9


class Database:
    """One database for the threads of one process; connections are made at first use.

    Transactions raise ``Unavailable`` where the database fails, and let ``IntegrityError`` and whatever
    their body raises pass.
    """

    def __init__(self, address: Secret) -> None:
        """Raises ``ConfigError`` when the driver is not installed."""
        url = make_url(address.reveal())
        self.is_sqlite: Final = url.get_backend_name() == SQLITE
        self.name: Final = url.database or "" if self.is_sqlite else url.render_as_string()
        self._engine: Final = _sqlite(url) if self.is_sqlite else _postgresql(url)
        self._writers: Final = self._engine.execution_options(**{_BEGIN: "IMMEDIATE"})
        self._turn: Final = threading.Lock()
        driver_error: type[Exception] = self._engine.dialect.loaded_dbapi.Error
        self._faults: Final = (exc.DBAPIError, exc.TimeoutError, driver_error)
        self._writer: Final = Writer(self._turn, self._engine.raw_connection, self._report)
        self._ready = False
        self._said: dict[str, float] = {}

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that sees one state of the database and changes nothing."""
        with self._guarded(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self, *, durable: bool = False) -> Iterator[sa.Connection]:
        """A transaction that commits at its end; ``durable``: it survives a power cut, too."""
        with (
            self._guarded(),
            self._in_turn(),
            self._writers.connect() as connection,
            self._synchronous(connection, durable),
            connection.begin(),
        ):
            yield connection

    def driver(self, *, write: bool) -> AbstractContextManager[Any]:
        """As ``reading`` and ``writing``, with the driver's own connection, for what every call does."""
        if not (write and self.is_sqlite):
            return self._driven()
        if not self._ready:
            with self._reported():
                self._prepare()
        return self._writer

    @contextmanager
    def _driven(self) -> Iterator[Any]:
        """Of a transaction that others need not wait for."""
        with self._guarded(), closing(self._engine.raw_connection()) as connection:
            raw: Any = connection.driver_connection
            if self.is_sqlite:
                raw.execute("BEGIN")
            try:
                yield raw
                raw.commit()
            except BaseException as error:
                if isinstance(error, self._faults) and not self.is_sqlite and raw.broken:
                    connection.invalidate(error)
                else:
                    raw.rollback()
                raise

    def start(self) -> None:
        """Bring the tables up to date; raises ``ConfigError`` for what no waiting will cure."""
        try:
            self.upgrade()
            with self.writing():
                pass  # whether it may
        except Unavailable as error:
            if isinstance(error.__cause__, Exception) and _is_lasting(error.__cause__):
                raise ConfigError(f"store.url: {self._explained(error.__cause__)}") from None

    def upgrade(self) -> tuple[migrations.Step, ...]:
        """Bring the tables up to date, and say what that took; raises ``ConfigError`` for a newer schema."""
        with self._reported():
            return self._prepare()

    def state(self) -> migrations.State:
        """Where the database stands; changes nothing, and makes no file."""
        with self._reported():
            there = not self.is_sqlite or Path(self.name).exists()
            return migrations.state(self._engine if there else None)

    def checkpoint(self) -> None:
        """Have SQLite move what is in its log to its file: no call shall wait for the disk to do so."""
        if self.is_sqlite:
            with self._guarded(), closing(self._engine.raw_connection()) as connection:
                raw: Any = connection.driver_connection
                raw.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """Close every connection."""
        self._writer.close()
        self._engine.dispose()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        with self._reported():
            if not self._ready:
                self._prepare()
            yield

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Whatever the database does wrong becomes one log line and ``Unavailable``."""
        try:
            yield
        except exc.IntegrityError:
            raise
        except self._faults as error:
            self._report(error)

    def _report(self, error: BaseException) -> None:
        """Say what is wrong and raise ``Unavailable``, if it is the database that is at fault."""
        if isinstance(error, self._faults):
            self._say(self._explained(error))
            message = "The store of this gateway does not answer; try again."
            raise Unavailable(message, retry_after=_RETRY_AFTER) from error

    def _prepare(self) -> tuple[migrations.Step, ...]:
        with self._turn:
            applied = () if self._ready else migrations.upgrade(self._engine)
            self._ready = True
            return applied

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        """Writers of one process queue here: SQLite's own waiting sleeps longer than a transaction takes."""
        if not self.is_sqlite:
            yield
            return
        if not self._turn.acquire(timeout=PATIENCE):
            raise exc.TimeoutError("other threads of this process are writing")
        try:
            yield
        finally:
            self._turn.release()

    @contextmanager
    def _synchronous(self, connection: sa.Connection, durable: bool) -> Iterator[None]:
        if not (durable and self.is_sqlite):
            yield
            return
        raw: Any = connection.connection.driver_connection
        raw.execute("PRAGMA synchronous = FULL")
        try:
            yield
        finally:
            raw.execute("PRAGMA synchronous = NORMAL")

    def _explained(self, error: Exception) -> str:
        """One line: which database, what is wrong, what to do."""
        text = " ".join(str(getattr(error, "orig", None) or error).split())
        remedy = next((remedy for words, remedy in _REMEDIES if words in text), "")
        return f"{self.name}: {text}{remedy}"

    def _say(self, line: str) -> None:
        """Log a line, unless it was logged a moment ago."""
        now = time.monotonic()
        if now - self._said.get(line, -_SECONDS_BETWEEN_LINES) >= _SECONDS_BETWEEN_LINES:
            self._said = {line: now}
            log.error("store: %s", line)


_REMEDIES: Final = (
    ("database is locked", ": another process has been writing for too long; end it"),
    ("malformed", ": the file is damaged. Stop the gateway and restore a backup, or sqlite3 FILE .recover"),
    ("not a database", ": the file is damaged or another one. Name the right file, or restore a backup"),
    ("disk is full", ": make room; nothing is admitted before"),
    ("disk I/O error", ": the disk fails or is full"),
    ("readonly", ": give the user of the gateway the right to write the file and its directory"),
    ("unable to open", ": the directory must be there, and the user of the gateway may write in it"),
)  # fmt: skip
_LASTING: Final = ("malformed", "not a database", "unable to open", "readonly")


def _is_lasting(error: BaseException) -> bool:
    return any(words in str(error) for words in _LASTING)


# -- SQLite ----------------------------------------------------------------------------------------


def _sqlite(url: URL) -> sa.Engine:
    engine = sa.create_engine(
        url,
        connect_args={"timeout": PATIENCE, "isolation_level": None, "check_same_thread": False},
        poolclass=sa.QueuePool,
        pool_size=_CONNECTIONS,
        max_overflow=0,
        pool_timeout=PATIENCE,
    )
    path = Path(url.database or "")

    @sa.event.listens_for(engine, "do_connect")
    def private(*_: Any) -> None:
        # Nobody else reads who has which key; the files beside it get the same mode.
        if path.parent.is_dir() and not path.exists():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: Any) -> None:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA page_size = 2048")  # of a new file: each call writes two pages
        _use_wal(connection)

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        kind = connection.get_execution_options().get(_BEGIN, "DEFERRED")
        connection.exec_driver_sql(f"BEGIN {kind}")

    return engine


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to a write-ahead log; SQLite does not wait by itself while another process does the same."""
    deadline = time.monotonic() + PATIENCE
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


# -- PostgreSQL ------------------------------------------------------------------------------------


def _postgresql(url: URL) -> sa.Engine:
    milliseconds = int(PATIENCE * 1000)
    waits = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    options = {
        "connect_timeout": int(PATIENCE),
        "tcp_user_timeout": milliseconds,
        "options": " ".join(f"-c {name}={milliseconds}" for name in waits),
        "application_name": "outgate",
    }
    given = url.query
    try:
        engine = sa.create_engine(
            url.set(drivername="postgresql+psycopg"),
            connect_args={name: value for name, value in options.items() if name not in given},
            pool_size=_CONNECTIONS,
            max_overflow=0,
            pool_timeout=PATIENCE,
        )
    except ImportError:
        raise ConfigError(
            "store.url: PostgreSQL needs its driver: pip install 'outgate[postgres]'"
        ) from None

    @sa.event.listens_for(engine, "checkout")
    def alive(connection: Any, _record: Any, _proxy: Any) -> None:
        # An idle connection has nothing to read, unless the server has closed it.
        if connection.closed or _readable(connection.fileno()):
            raise exc.DisconnectionError("the server closed this connection")

    return engine


def _readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | select.POLLHUP)
    return bool(poll.poll(0))
