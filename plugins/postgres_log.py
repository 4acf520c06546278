"""Calls as rows of a PostgreSQL table, for whoever would rather ask in SQL."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, LiteralString

from proxy import ConfigError, Outbox, Record, Secret, Undeliverable, hookimpl, record_line

if TYPE_CHECKING:
    import psycopg

_TABLE = re.compile(r"(?:[a-z_][a-z0-9_]{0,62}\.)?[a-z_][a-z0-9_]{0,62}\Z")
_LOCK = 0x6F757467  # of the sessions that make the table, all over the database
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
#: Columns that are there to be asked for; the whole record is in the last.
_PLAIN = (
    "endpoint",
    "outcome",
    "status",
    "seconds",
    "principal",
    "model",
    "code",
    "denied_by",
    "upstream",
)
_CREATE: LiteralString = """
create table if not exists {table} (
    id text primary key,
    time timestamptz not null,
    endpoint text not null,
    outcome text not null,
    status integer not null,
    seconds double precision not null,
    principal text,
    model text,
    code text,
    denied_by text,
    upstream text,
    prompt_tokens bigint,
    completion_tokens bigint,
    record jsonb not null
)"""
_INDEX: LiteralString = "create index if not exists {name} on {table} (time)"
# A batch whose answer was lost is sent again, so a row may be there already.
_INSERT: LiteralString = """
insert into {table} (id, time, endpoint, outcome, status, seconds, principal, model, code, denied_by, upstream,
    prompt_tokens, completion_tokens, record)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
on conflict do nothing"""
_LIMITED: LiteralString = "select set_config('statement_timeout', %s, true)"
_LARGEST = 2**63 - 1


@dataclass(frozen=True)
class PostgresLog:
    """``url`` is ``postgresql://user:password@host/database?sslmode=verify-full``, from outside the configuration.

    The ``table`` (``name`` or ``schema.name``) is made if it is missing, unless ``create`` is off. Rows wait in
    memory, ``most`` of them, while the database is away.
    """

    url: Secret
    table: str = "outgate_calls"
    create: bool = True
    timeout: float = 5.0
    batch: int = 200
    most: int = 10_000
    _outbox: Outbox = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """A table that needs quotes, and a connection that anyone could read, stop the start."""
        if not _TABLE.match(self.table):
            raise ConfigError(
                f'table {self.table!r}: write "name" or "schema.name" in small letters, digits and _'
            )
        if self.batch < 1 or self.timeout <= 0:
            raise ConfigError("batch and timeout: write numbers above zero")
        _check(self.url)
        database = _Database(self)
        box = Outbox("postgres_log", database.insert, batch=self.batch, most=self.most)
        object.__setattr__(self, "_outbox", box)

    @hookimpl
    def log_exchange(self, record: Record, required: bool) -> None:
        """Put the row into the queue; while the database is away, a required sink raises ``Undelivered``."""
        self._outbox.put(record_line(record), must=required)


class _Database:
    """The connection, used by one thread and made anew after every fault."""

    def __init__(self, options: PostgresLog) -> None:
        self._options = options
        self._connection: psycopg.Connection[Any] | None = None
        self._pid = 0

    def insert(self, lines: Sequence[bytes]) -> None:
        """All rows in one transaction."""
        import psycopg
        from psycopg import sql

        try:
            connection = self._connected()
            insert = sql.SQL(_INSERT).format(table=_identifier(self._options.table))
            with connection.transaction(), connection.cursor() as cursor:
                cursor.execute(_LIMITED, (f"{int(self._options.timeout * 1000)}ms",))
                cursor.executemany(insert, [tuple(_row(json.loads(line))) for line in lines])
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            raise Undeliverable(_told(error)) from None
        except psycopg.Error as error:
            self._close()
            # The library's own words name the server and the user.
            raise ConnectionError(_told(error)) from None

    def _connected(self) -> "psycopg.Connection[Any]":
        import psycopg

        if self._connection is not None and self._pid == os.getpid():
            return self._connection
        seconds = self._options.timeout
        connection = psycopg.connect(
            self._options.url.reveal(),
            connect_timeout=max(
                2, round(seconds)
            ),  # libpq knows whole seconds, and no less than two
            application_name="outgate",
            tcp_user_timeout=int(seconds * 1000),
            autocommit=True,
            prepare_threshold=None,  # poolers in between keep no statements
        )
        try:
            if self._options.create:
                _create(connection, self._options.table)
        except BaseException:
            connection.close()
            raise
        self._connection, self._pid = connection, os.getpid()
        return connection

    def _close(self) -> None:
        if self._connection is not None and self._pid == os.getpid():
            self._connection.close()
        self._connection = None


def _create(connection: "psycopg.Connection[Any]", table: str) -> None:
    from psycopg import sql

    name = _identifier(table)
    index = sql.Identifier(f"{table.rpartition('.')[2][:58]}_time")
    with connection.transaction():
        # "if not exists" alone fails when two sessions make it at once.
        connection.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))
        connection.execute(sql.SQL(_CREATE).format(table=name))
        connection.execute(sql.SQL(_INDEX).format(name=index, table=name))


def _identifier(table: str) -> Any:
    from psycopg import sql

    return sql.Identifier(*table.split("."))


def _row(record: dict[str, Any]) -> Iterator[Any]:
    record = _storable(record)
    usage = record.get("usage") or {}
    yield record["id"]
    yield record["time"]
    yield from (record.get(name) for name in _PLAIN)
    for name in ("prompt_tokens", "completion_tokens"):
        # An upstream may say any number.
        count = usage.get(name)
        yield count if count is not None and abs(count) <= _LARGEST else None
    yield json.dumps(record)


def _storable(value: Any) -> Any:
    """``value`` without the one character that PostgreSQL stores in no text."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {_storable(key): _storable(item) for key, item in value.items()}
    return list(map(_storable, value)) if isinstance(value, list) else value


def _told(error: "psycopg.Error") -> str:
    return f"{type(error).__name__} {error.sqlstate or 'no connection'}"


def _check(url: Secret) -> None:
    """What can be said of the connection before it is made; never repeats it."""
    try:
        import psycopg
        from psycopg.conninfo import conninfo_to_dict
    except ImportError:
        raise ConfigError("psycopg is not installed: run pip install 'outgate[postgres]'") from None
    try:
        parts = conninfo_to_dict(url.reveal())
    except psycopg.Error:
        raise ConfigError(
            "url is not understood: write postgresql://user:password@host/database"
        ) from None
    hosts = str(parts.get("hostaddr") or parts.get("host") or "").split(",")
    if "" in hosts:
        raise ConfigError("url names no host, and the environment is not asked for one: add it")
    local = all(host.startswith("/") or host in _LOCAL for host in hosts)
    if not local and parts.get("sslmode") not in {"require", "verify-ca", "verify-full"}:
        raise ConfigError(
            "url: records would cross the network in plain text: add ?sslmode=verify-full"
        )
