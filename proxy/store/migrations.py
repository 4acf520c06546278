"""Brings the tables of a database up to date: numbered steps, one transaction, one process at a time."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import sqlalchemy as sa
from msgspec import Struct

from proxy.errors import ConfigError
from proxy.store import schema
from proxy.store.table import SQLITE

#: Any number does that no other program uses on the same database.
_LOCK: Final = 0x6F757467617465  # "outgate"


class Step(Struct, frozen=True):
    """One change of the schema; ``apply`` gets a connection inside the one transaction of the upgrade."""

    number: int
    title: str
    apply: Callable[[sa.Connection], None]


class State(Struct, frozen=True):
    """Where a database stands: the last step it has behind it, and the last one known here."""

    current: int
    known: int
    missing: tuple[str, ...]


def _everything(connection: sa.Connection) -> None:
    """What a new database gets: all tables as they are now."""
    schema.metadata.create_all(connection)
    connection.execute(schema.changes.insert(), {"subject": "keys", "number": 1})


def _cached(connection: sa.Connection) -> None:
    connection.exec_driver_sql(
        "ALTER TABLE outgate_usage ADD COLUMN cached BIGINT DEFAULT 0 NOT NULL"
    )


#: The first step stands for a new database and is never applied to another. A later one is never edited once a
#: release has it: databases that have it behind them would not change.
STEPS: Final = (
    Step(1, "keys, ledger and usage", _everything),
    Step(2, "calls that were answered from the cache, in the usage book", _cached),
)


def upgrade(engine: sa.Engine, steps: Sequence[Step] = STEPS) -> tuple[Step, ...]:
    """Apply the steps that are missing, all or none, and say which; raises ``ConfigError`` for a newer schema."""
    if not _missing(_applied(engine), steps):
        return ()
    with _alone(engine) as connection:
        schema.steps.create(connection, checkfirst=True)
        applied = _rows(connection)
        missing = _missing(applied, steps)
        for step in missing[:1] if not applied else missing:
            step.apply(connection)
        now = int(time.time())
        for step in missing:
            row = {"number": step.number, "title": step.title, "applied": now}
            connection.execute(schema.steps.insert(), row)
        return missing


def state(engine: sa.Engine | None, steps: Sequence[Step] = STEPS) -> State:
    """Where a database stands, None for one that is not there yet; a newer schema is no error here."""
    applied = _applied(engine) if engine is not None else frozenset()
    missing = tuple(step.title for step in steps if step.number not in applied)
    return State(max(applied, default=0), steps[-1].number, missing)


def _applied(engine: sa.Engine) -> frozenset[int]:
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table(schema.steps.name):
            return frozenset()
        return _rows(connection)


def _rows(connection: sa.Connection) -> frozenset[int]:
    return frozenset(connection.scalars(sa.select(schema.steps.c.number)))


def _missing(applied: frozenset[int], steps: Sequence[Step]) -> tuple[Step, ...]:
    known = steps[-1].number
    if (newest := max(applied, default=0)) > known:
        raise ConfigError(
            f"store.url: a newer Outgate has upgraded this database to schema {newest}, this one knows {known}:"
            " install that version again, or restore the backup from before the upgrade"
        )
    return tuple(step for step in steps if step.number not in applied)


@contextmanager
def _alone(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that no other upgrade runs beside; what others did meanwhile is seen in it."""
    with engine.execution_options(outgate_begin="EXCLUSIVE").begin() as connection:
        if engine.dialect.name != SQLITE:
            # Rewriting a large table takes longer than the answer to a call may.
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        yield connection
