"""The tables of the store: one schema for SQLite and PostgreSQL.

Moments are whole seconds since 1970 in UTC. A change here needs a step in ``migrations``.
"""

from typing import Final

import sqlalchemy as sa

metadata: Final = sa.MetaData()


def _lists(name: str) -> "sa.Column[list[str]]":
    return sa.Column(name, sa.JSON, nullable=False, default=list)


# -- the store itself ------------------------------------------------------------------------------

#: The steps of ``migrations`` that this database has behind it.
steps: Final = sa.Table(
    "outgate_steps",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("applied", sa.BigInteger, nullable=False),
)

#: Small facts: ``pepper``, by which another pepper than the one of the keys is noticed.
facts: Final = sa.Table(
    "outgate_facts",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

# -- virtual keys ----------------------------------------------------------------------------------

#: ``keys`` counts every change of a key, so that caches know when they are stale.
changes: Final = sa.Table(
    "outgate_changes",
    metadata,
    sa.Column("subject", sa.String(64), primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
)

keys: Final = sa.Table(
    "outgate_keys",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(128), nullable=False, unique=True),
    sa.Column("owner", sa.String(256)),
    sa.Column("team", sa.String(128)),
    _lists("groups"),
    _lists("models"),
    _lists("endpoints"),
    _lists("networks"),
    sa.Column("upstream", sa.String(128)),
    sa.Column("metadata", sa.JSON, nullable=False, default=dict),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("expires", sa.BigInteger),
    sa.Column("revoked", sa.BigInteger),
)

#: HMAC-SHA-256 of the secrets: one for each key, two while a rotation overlaps.
digests: Final = sa.Table(
    "outgate_key_digests",
    metadata,
    sa.Column("digest", sa.LargeBinary(32), primary_key=True),
    sa.Column("key", sa.String(64), sa.ForeignKey("outgate_keys.id"), nullable=False, index=True),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("expires", sa.BigInteger),
)

# -- ledger and usage ------------------------------------------------------------------------------


def _label(name: str) -> "sa.Column[str]":
    return sa.Column(name, sa.Text, primary_key=True)


def _count(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.BigInteger, nullable=False)


#: The processes that hold reservations; a counter that stands still tells the dead.
holders: Final = sa.Table(
    "outgate_holders",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("pid", sa.BigInteger, nullable=False),
    sa.Column("started", sa.BigInteger, nullable=False),
    sa.Column("beat", sa.BigInteger, nullable=False),
)

#: What one budget has reserved and settled for one subject in one period: tokens, or nano-units of a currency.
purses: Final = sa.Table(
    "outgate_purses",
    metadata,
    *map(_label, ("budget", "subject", "period", "unit")),
    *map(_count, ("settled", "reserved")),
    sqlite_with_rowid=False,
)

#: Calls under way, each with the purses it took from; without a holder: abandoned, and given back.
reservations: Final = sa.Table(
    "outgate_reservations",
    metadata,
    sa.Column("call", sa.String(64), primary_key=True),
    sa.Column(
        "holder",
        sa.String(32),
        # No index: there are few rows, and every call writes one and takes it away.
        sa.ForeignKey("outgate_holders.id", ondelete="SET NULL"),
    ),
    sa.Column("returned", sa.BigInteger),
    sa.Column("entry", sa.LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

#: Sums by the hour (its first second); ``cost`` is nano-units of ``currency``.
usage: Final = sa.Table(
    "outgate_usage",
    metadata,
    sa.Column("hour", sa.BigInteger, primary_key=True, autoincrement=False),
    *map(_label, ("key", "owner", "team", "model", "upstream", "endpoint", "currency")),
    *map(
        _count,
        (
            *("calls", "refused", "failed", "retries", "estimated", "abandoned"),
            *("prompt_tokens", "cached_tokens", "completion_tokens", "cost"),
        ),
    ),
    # A process of the version before writes rows without it.
    sa.Column("cached", sa.BigInteger, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)
