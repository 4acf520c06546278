"""What outlives a process: virtual keys, the ledger of budgets, and usage, in SQLite or PostgreSQL."""

import os
import threading
import weakref
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Final

from proxy.errors import Unavailable
from proxy.store.table import StoreTable

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from proxy.store.engine import Database
    from proxy.store.keys import Keys
    from proxy.store.ledger import Ledger
    from proxy.store.usage import UsageBook

__all__ = ["Store", "StoreTable"]


class _Opened:
    """What one process has open; a child of it opens everything anew."""

    def __init__(self, table: StoreTable) -> None:
        # Here and not above: whoever needs no store does not pay for SQLAlchemy.
        from proxy.store.engine import Database
        from proxy.store.keys import Keys
        from proxy.store.ledger import Ledger
        from proxy.store.usage import UsageBook

        self.database: Final = Database(table.address())
        self.keys: Final = Keys(self.database, table)
        self.ledger: Final = Ledger(self.database, table.lease, table.kept_seconds())
        self.usage: Final = UsageBook(self.database, self.ledger.flush)


#: What a parent left open. Closing it here would end transactions and locks that the parent still has.
_inherited: Final[list[_Opened]] = []
_stores: Final["weakref.WeakSet[Store]"] = weakref.WeakSet()


class Store:
    """The store of ``[store]``: opened at its first use, once per process, shared by its threads.

    Every method of it and of its parts may raise ``Unavailable``: the database does not answer,
    and the log says why.
    """

    def __init__(self, table: StoreTable) -> None:
        self.table: Final = table
        self._begin_anew()
        _stores.add(self)

    def _begin_anew(self) -> None:
        self._opened: _Opened | None = None
        self._opening = threading.Lock()

    def start(self) -> None:
        """Open the database and bring its tables up to date, as a server does before its first call.

        Raises ``ConfigError`` for what no waiting will cure: a newer schema, another pepper, a file that is no
        database or cannot be made. A server that does not answer is only logged: calls are refused until it does.
        """
        self.database.start()
        if self.table.pepper is not None:
            with suppress(Unavailable):
                self.keys.check_pepper()

    @property
    def keys(self) -> "Keys":
        """The virtual keys; raises ``ConfigError`` without ``store.pepper``."""
        return (self._opened or self._open()).keys

    @property
    def ledger(self) -> "Ledger":
        """What budgets have reserved and settled."""
        return (self._opened or self._open()).ledger

    @property
    def usage(self) -> "UsageBook":
        """Who used what, by the hour."""
        return (self._opened or self._open()).usage

    @property
    def database(self) -> "Database":
        """The database itself, for the other modules of this package."""
        return (self._opened or self._open()).database

    def reading(self) -> AbstractContextManager["Connection"]:
        """A transaction that sees one state of the database and changes nothing."""
        return self.database.reading()

    def writing(self) -> AbstractContextManager["Connection"]:
        """A transaction that commits at its end, or not at all when anything raises."""
        return self.database.writing()

    def close(self) -> None:
        """Close every connection; the next use opens the store again."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.ledger.close()
            opened.database.close()

    def _open(self) -> _Opened:
        with self._opening:
            if self._opened is None:
                self._opened = _Opened(self.table)
            return self._opened

    def _leave_to_parent(self) -> None:
        """In a forked child: open everything anew, with locks that no thread of the parent holds."""
        if self._opened is not None:
            _inherited.append(self._opened)
        self._begin_anew()


def _forked() -> None:
    for store in list(_stores):
        store._leave_to_parent()  # noqa: SLF001


os.register_at_fork(after_in_child=_forked)
