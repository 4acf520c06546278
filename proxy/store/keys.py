"""Virtual keys: made, listed, rotated and revoked, and found by what a caller shows."""

import hashlib
import hmac
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from proxy.errors import ConfigError, nearest
from proxy.secret import Secret
from proxy.store import schema
from proxy.store.engine import Database
from proxy.store.grant import Grant, Key
from proxy.store.known import Known
from proxy.store.table import StoreTable

#: Begins every secret, so that scanners of leaked secrets know one; an id has nothing of the secret in it.
PREFIX: Final = "og-"
_SECRET: Final = re.compile(r"og-[A-Za-z0-9_-]{43}")
_RANDOM_BYTES: Final = 32
_ID_BYTES: Final = 8
_PEPPER: Final = "pepper"
_CHUNK: Final = 500
_KEYS: Final = "keys"

Made = tuple[Key, Secret]


class Keys:
    """The virtual keys of one store, shared by the threads of a process.

    Every method may raise ``Unavailable``; those an operator calls raise ``ConfigError`` for a mistake.
    """

    def __init__(self, database: Database, table: StoreTable) -> None:
        self._database = database
        self._table = table
        self._pepper: bytes | None = None
        self._known = Known(self._number)
        # What is known is kept under a quicker digest than the database has, which means nothing elsewhere.
        self._own: Final = os.urandom(_RANDOM_BYTES)

    # -- for every call ----------------------------------------------------------------------------

    def find(self, shown: str) -> Key | None:
        """The key of a secret, if it may be used now; what others change is seen within half a second."""
        if not _SECRET.fullmatch(shown):
            return None
        asked = hashlib.blake2b(shown.encode(), key=self._own).digest()
        found = self._known.get(asked, lambda: self._read(self._digest(shown)))
        now = time.time()
        if found is None or (found[1] is not None and found[1] <= now):
            return None
        return found[0] if found[0].live(now) else None

    def by_id(self, name: str) -> Key | None:
        """A key by its id, be it expired or revoked."""
        found = self._known.get(name, lambda: self._read_id(name))
        return found[0] if found else None

    def _number(self) -> int:
        with self._database.reading() as connection:
            return int(connection.execute(_NUMBER).scalar_one())

    def _read(self, digest: bytes) -> tuple[int, tuple[Key, int | None] | None]:
        """In one look: the number of the changes, and the key with the time its secret ends."""
        with self._database.reading() as connection:
            row = connection.execute(_BY_DIGEST, {"digest": digest}).mappings().one()
        if row["digest"] is None or not hmac.compare_digest(bytes(row["digest"]), digest):
            return row["number"], None
        return row["number"], (_key(row), row["digest_expires"])

    def _read_id(self, name: str) -> tuple[int, tuple[Key, int | None] | None]:
        with self._database.reading() as connection:
            row = connection.execute(_BY_ID, {"wanted": name}).mappings().one()
        return row["number"], (_key(row), None) if row["id"] else None

    # -- for the operator --------------------------------------------------------------------------

    def list(self) -> tuple[Key, ...]:
        """Every key, the oldest first."""
        order = (schema.keys.c.created, schema.keys.c.name)
        with self._database.reading() as connection:
            rows = connection.execute(schema.keys.select().order_by(*order)).mappings().all()
        return tuple(map(_key, rows))

    def get(self, reference: str) -> Key:
        """The key with this id or name; raises ``ConfigError`` with the nearest name."""
        with self._database.reading() as connection:
            return _get(connection, reference)

    def overlap(self, key: Key) -> int | None:
        """Until when the secret before the present one is taken too (seconds since 1970), if it is."""
        d = schema.digests.c
        query = sa.select(sa.func.max(d.expires)).where(d.key == key.id, d.expires > time.time())
        with self._database.reading() as connection:
            until: int | None = connection.execute(query).scalar()
            return until

    def taken(self, names: Iterable[str]) -> frozenset[str]:
        """Those of the names that keys have already."""
        with self._database.reading() as connection:
            there = frozenset(connection.scalars(sa.select(schema.keys.c.name)))
        return there.intersection(names)

    def create(self, grant: Grant) -> Made:
        """Make a key; its secret is told here and never again. Raises ``ConfigError``."""
        return self.create_all([grant])[0]

    def create_all(
        self, grants: Sequence[Grant], told: Callable[[Sequence[Made]], object] = lambda _: None
    ) -> Sequence[Made]:
        """Make all of the keys or none; ``told`` gets them bit by bit before they count, and may raise."""
        now = int(time.time())
        made = [(_new(grant, now), _secret()) for grant in grants]
        with self._changing() as connection:
            self._keep_pepper(connection)
            if doubles := frozenset(connection.scalars(_NAMES)) & {key.name for key, _ in made}:
                raise _name_taken(min(doubles))
            for at in range(0, len(made), _CHUNK):
                chunk = made[at : at + _CHUNK]
                connection.execute(schema.keys.insert(), [_row(key) for key, _ in chunk])
                rows = [self._digest_row(key, secret, now) for key, secret in chunk]
                connection.execute(schema.digests.insert(), rows)
                told(chunk)
        return made

    def rotate(self, reference: str, overlap: int) -> Made:
        """Give a key a new secret; the one it has is taken for ``overlap`` more seconds."""
        now, secret = int(time.time()), _secret()
        d = schema.digests.c
        with self._changing() as connection:
            self._keep_pepper(connection)
            key = _get(connection, reference)
            if key.revoked is not None:
                raise ConfigError(f"{key.name!r} ({key.id}) is revoked: create another key")
            mine = d.key == key.id
            # Two secrets at most: what was replaced before ends now.
            connection.execute(schema.digests.delete().where(mine, d.expires.is_not(None)))
            if overlap:
                ends = schema.digests.update().where(mine).values(expires=now + overlap)
                connection.execute(ends)
            else:
                connection.execute(schema.digests.delete().where(mine))
            connection.execute(schema.digests.insert(), self._digest_row(key, secret, now))
        return key, secret

    def revoke(self, reference: str) -> Key:
        """End a key for good, with all of its secrets; once more changes nothing."""
        with self._changing() as connection:
            key = _get(connection, reference)
            connection.execute(schema.digests.delete().where(schema.digests.c.key == key.id))
            still = (schema.keys.c.id == key.id, schema.keys.c.revoked.is_(None))
            ended = schema.keys.update().where(*still).values(revoked=int(time.time()))
            connection.execute(ended)
            return _get(connection, key.id)

    def check_pepper(self) -> None:
        """Raises ``ConfigError`` when the keys were made with another pepper: nobody would be known."""
        with self._database.reading() as connection:
            self._compare_pepper(_kept(connection))

    @contextmanager
    def _changing(self) -> Iterator[sa.Connection]:
        """A transaction that every cache notices."""
        try:
            with self._database.writing(durable=True) as connection:
                connection.execute(_CHANGED)
                yield connection
        except IntegrityError:
            raise ConfigError("another process changed the same keys: try again") from None

    # -- digests -----------------------------------------------------------------------------------

    def _digest(self, text: str) -> bytes:
        if self._pepper is None:
            self._pepper = self._table.required_pepper().reveal().encode()
        return hmac.digest(self._pepper, text.encode(), hashlib.sha256)

    def _digest_row(self, key: Key, secret: Secret, now: int) -> dict[str, Any]:
        digest = self._digest(secret.reveal())
        return {"digest": digest, "key": key.id, "created": now, "expires": None}

    def _keep_pepper(self, connection: sa.Connection) -> None:
        kept = _kept(connection)
        self._compare_pepper(kept)
        if kept is None:
            row = {"name": _PEPPER, "value": self._digest(_PEPPER).hex()}
            connection.execute(schema.facts.insert(), row)

    def _compare_pepper(self, kept: str | None) -> None:
        if kept is not None and not hmac.compare_digest(kept, self._digest(_PEPPER).hex()):
            raise ConfigError(
                "store.pepper is not the one that the keys of this database were made with, so none of them would"
                " be known: put the former one back, or use another database"
            )


# -- queries ---------------------------------------------------------------------------------------

_number_of: Final = schema.changes.c.number.label("number")
_of_keys: Final = schema.changes.c.subject == _KEYS
_NUMBER: Final = sa.select(_number_of).where(_of_keys)
_CHANGED: Final = schema.changes.update().where(_of_keys).values(number=schema.changes.c.number + 1)
_NAMES: Final = sa.select(schema.keys.c.name)
_BY_DIGEST: Final = (
    sa.select(
        _number_of,
        schema.digests.c.digest,
        schema.digests.c.expires.label("digest_expires"),
        *schema.keys.c,
    )
    .select_from(schema.changes)
    .outerjoin(schema.digests, schema.digests.c.digest == sa.bindparam("digest"))
    .outerjoin(schema.keys, schema.keys.c.id == schema.digests.c.key)
    .where(_of_keys)
)
_BY_ID: Final = (
    sa.select(_number_of, *schema.keys.c)
    .select_from(schema.changes)
    .outerjoin(schema.keys, schema.keys.c.id == sa.bindparam("wanted"))
    .where(_of_keys)
)


def _kept(connection: sa.Connection) -> str | None:
    query = sa.select(schema.facts.c.value).where(schema.facts.c.name == _PEPPER)
    kept: str | None = connection.execute(query).scalar()
    return kept


def _get(connection: sa.Connection, reference: str) -> Key:
    k = schema.keys.c
    query = schema.keys.select().where(sa.or_(k.id == reference, k.name == reference))
    row = connection.execute(query).mappings().first()
    if row is None:
        if reference.startswith(PREFIX):
            raise ConfigError("that is a secret: name the key by its id (key_…) or its name")
        known = list(connection.scalars(_NAMES))
        raise ConfigError(
            f"no key {reference!r}.{nearest(reference, known)} See: outgate keys list"
        )
    return _key(row)


def _key(row: Mapping[Any, Any]) -> Key:
    lists = ("groups", "models", "endpoints", "networks")
    fields = {name: row[name] for name in Key.__struct_fields__}
    return Key(**{**fields, **{name: tuple(fields[name]) for name in lists}})


def _row(key: Key) -> dict[str, Any]:
    return {name: getattr(key, name) for name in Key.__struct_fields__}


def _new(grant: Grant, now: int) -> Key:
    grant.check(now)
    fields = {name: getattr(grant, name) for name in Grant.__struct_fields__}
    return Key(id=f"key_{secrets.token_hex(_ID_BYTES)}", created=now, **fields)


def _secret() -> Secret:
    return Secret(PREFIX + secrets.token_urlsafe(_RANDOM_BYTES))


def _name_taken(name: str) -> ConfigError:
    return ConfigError(
        f"the name {name!r} is taken, perhaps by a key that is revoked: choose another, or give that key a new secret"
        " with outgate keys rotate"
    )
