"""Who used what, hour by hour: one row for each key, owner, team, model, upstream, endpoint and currency."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import add
from typing import Any, Final

import sqlalchemy as sa
from msgspec.structs import astuple

from proxy.errors import ConfigError, nearest
from proxy.store import schema
from proxy.store.engine import Database
from proxy.store.entries import HOUR, Counts, Labels, Used

#: The columns of a row.
LABELS: Final = Labels.__struct_fields__
COUNTS: Final = Counts.__struct_fields__
#: What a report can be grouped by; ``hour`` and ``day`` are times, in seconds since 1970.
_AGO: Final = re.compile(r"([0-9]{1,6})([hdw])")
_UNITS: Final = {"h": "hours", "d": "days", "w": "weeks"}
GROUPS: Final = ("hour", "day", *LABELS)


class UsageBook:
    """The hours and what was used in them; every method may raise ``Unavailable``."""

    def __init__(self, database: Database, flush: Callable[[], None] = lambda: None) -> None:
        """``flush`` writes what this process has still to add; a report sees it."""
        self._database = database
        self._flush = flush
        self._upsert = statement(database)

    @staticmethod
    def moment(text: str, now: datetime) -> int:
        """``7d``, ``12h``, ``2w`` before ``now``, or a date, in seconds since 1970; raises ``ConfigError``."""
        found = _AGO.fullmatch(text)
        try:
            if found:
                then = now - timedelta(**{_UNITS[found[2]]: int(found[1])})
            else:
                then = datetime.fromisoformat(text)
                then = then if then.tzinfo else then.replace(tzinfo=UTC)
            return max(0, int(then.timestamp()))
        except (ValueError, OverflowError):
            raise ConfigError(
                f"{text!r} is no time: write for example 7d, 12h or 2026-01-31"
            ) from None

    def add(self, used: Used) -> None:
        """Add to the book in a transaction of its own."""
        with self._database.driver(write=True) as raw:
            self.write(raw, [used])

    def write(self, raw: Any, several: Iterable[Used]) -> None:
        """Add to the book within a transaction; rows are taken in one order by all, so none waits for another."""
        sums: dict[tuple[Any, ...], tuple[int, ...]] = {}
        for used in several:
            row = (used.hour, *astuple(used.labels))
            # PostgreSQL takes no boolean for a number.
            counts = tuple(map(int, astuple(used.counts)))
            known = sums.get(row)
            sums[row] = tuple(map(add, known, counts)) if known else counts
        for row, counts in sorted(sums.items()):
            raw.execute(self._upsert, (*row, *counts))

    def report(
        self,
        by: Sequence[str],
        *,
        since: int = 0,
        until: int | None = None,
        where: Mapping[str, str] | None = None,
    ) -> list[dict[str, Any]]:
        """Sums for each combination of ``by``, in its order; money stays apart by currency.

        ``since`` and ``until`` are seconds since 1970 and cut at hours; ``where`` maps labels to values.
        Raises ``ConfigError`` for a name that is no column.
        """
        for name in (*by, *(where or ())):
            if name not in GROUPS:
                raise ConfigError(
                    f"there is no usage by {name!r}.{nearest(name, GROUPS)} There are: {', '.join(GROUPS)}"
                )
        table = schema.usage
        groups = [_column(name) for name in dict.fromkeys([*by, "currency"])]
        sums = [sa.func.sum(table.c[name]).label(name) for name in COUNTS]
        query = sa.select(*groups, *sums).where(table.c.hour >= since // HOUR * HOUR)
        if until is not None:
            query = query.where(table.c.hour < until)
        for name, value in (where or {}).items():
            query = query.where(_column(name) == value)
        # Group and order by place: a label of the result may have the name of a column.
        query = query.group_by(*groups).order_by(*groups)
        self._flush()
        with self._database.reading() as connection:
            rows = connection.execute(query).mappings().all()
        # PostgreSQL sums to decimals.
        return [{k: int(v) if k in COUNTS else v for k, v in row.items()} for row in rows]


def _column(name: str) -> Any:
    hour = schema.usage.c.hour
    if name == "day":
        return (hour - hour % (24 * HOUR)).label("day")
    return schema.usage.c[name]


def statement(database: Database) -> str:
    """The SQL that adds a row, or adds to the one that is there."""
    labels = ("hour", *LABELS)
    names = ", ".join((*labels, *COUNTS))
    marks = ", ".join("?" * len((*labels, *COUNTS)))
    sums = ", ".join(f"{name} = {schema.usage.name}.{name} + excluded.{name}" for name in COUNTS)
    return dialect(
        database,
        f"INSERT INTO {schema.usage.name} ({names}) VALUES ({marks})"  # noqa: S608 - our own names
        f" ON CONFLICT ({', '.join(labels)}) DO UPDATE SET {sums}",
    )


def dialect(database: Database, sql: str) -> str:
    """SQL of ours with the driver's mark for a parameter."""
    return sql if database.is_sqlite else sql.replace("?", "%s")
