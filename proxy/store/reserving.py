"""The transaction that takes what a call may cost from its purses, for one call or for several at once."""

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

from proxy.store.engine import Database
from proxy.store.entries import Charge, Shortage
from proxy.store.ledger_sql import Statements
from proxy.store.settling import Reservation, abandoned
from proxy.store.together import Together, Wish
from proxy.store.usage import UsageBook


class Short(Exception):
    """A purse that cannot pay; its way out of the transaction undoes what was taken before."""


class Lost(Exception):
    """This process was taken for dead, and must register again."""


class Reserve(Wish):
    """What one call wants to reserve."""

    def __init__(self, call: str, entry: bytes, charges: Sequence[Charge], *, again: bool) -> None:
        super().__init__()
        self.call = call
        self.entry = entry
        self.charges = charges
        self.again = again
        self.holder = ""


class Reserving:
    """Reservations of one process, made by any of its threads."""

    def __init__(self, database: Database, sql: Statements, book: UsageBook) -> None:
        self._database = database
        self._sql = sql
        self._book = book
        self._together = Together(self._reserve_all)

    def do(self, wish: Reserve) -> None:
        """Take what is wanted, or raise ``Short``, ``Lost`` or ``Unavailable``."""
        if self._database.is_sqlite:
            self._together.do(wish)
            return
        # A server has many writers, and several calls in one transaction would lock purses in no order.
        with self._database.driver(write=True) as raw:
            self._reserve(raw, wish)

    def _reserve_all(self, those: Callable[[], Sequence[Reserve]]) -> None:
        with self._database.driver(write=True) as raw:
            wishes = those()
            if len(wishes) == 1:
                self._reserve(raw, wishes[0])
                return
            for wish in wishes:
                raw.execute("SAVEPOINT one")
                try:
                    self._reserve(raw, wish)
                except Short as short:
                    wish.error = short
                    raw.execute("ROLLBACK TO SAVEPOINT one")
                raw.execute("RELEASE SAVEPOINT one")

    def _reserve(self, raw: Any, wish: Reserve) -> None:
        # All take their locks in one order (holder, reservations, purses by name, usage), so nobody waits in a ring.
        former = self._former(raw, wish) if wish.again else None
        if wish.charges or not wish.again:
            self._hold(raw, wish)
        self._move(raw, wish.charges, former)

    def _hold(self, raw: Any, wish: Reserve) -> None:
        if raw.execute(self._sql.hold, (wish.call, wish.entry, wish.holder)).rowcount != 1:
            raise Lost

    def _former(self, raw: Any, wish: Reserve) -> Reservation | None:
        """Take away what a call has reserved, but for its purses; None where it has nothing."""
        if raw.execute(self._sql.stand, (wish.holder,)).fetchone() is None:
            raise Lost
        row = raw.execute(self._sql.withdraw, (wish.call,)).fetchone()
        return Reservation(*row) if row else None

    def _move(self, raw: Any, charges: Sequence[Charge], former: Reservation | None) -> None:
        """Take all charges, in place of what was reserved before; raises ``Short``."""
        if former is not None:
            self._change(raw, charges, former)
            return
        for charge in charges:
            self._take(raw, charge)

    def _take(self, raw: Any, charge: Charge, before: int = 0) -> None:
        """Take what a charge is more than ``before``; raises ``Short``."""
        purse = charge.purse()
        fits = charge.amount <= charge.cap and raw.execute(
            self._sql.take, (*purse, charge.amount - before, charge.cap)
        )
        if not fits or fits.rowcount != 1:
            settled, reserved = raw.execute(self._sql.balance, purse).fetchone() or (0, 0)
            raise Short(Shortage(charge, max(0, charge.cap - settled - reserved + before)))

    def _change(self, raw: Any, charges: Sequence[Charge], former: Reservation) -> None:
        """Move each purse by what is reserved more than before, or less; raises ``Short``."""
        held = former.amounts()
        named = [(charge.purse(), charge) for charge in charges]
        gone = [(purse, None) for purse in held.keys() - {purse for purse, _ in named}]
        for purse, charge in sorted([*named, *gone], key=itemgetter(0)):
            before = held.pop(purse, 0)
            if charge is None:
                raw.execute(self._sql.pay, (*purse, 0, -before))
            else:
                self._take(raw, charge, before)
        if former.returned is not None:
            # It was counted as abandoned, as this process was taken for dead.
            self._book.write(raw, [abandoned(former.read(), -1)])
