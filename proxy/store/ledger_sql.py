"""The ledger's statements as the drivers take them: every call runs them, and building SQL costs more than they do."""

from typing import Final

from proxy.store.engine import Database
from proxy.store.usage import dialect


class Statements:
    """One attribute for each; parameters in the order in which they stand."""

    hold = (
        "INSERT INTO outgate_reservations (call, entry, holder)"
        " SELECT ?, ?, id FROM outgate_holders WHERE id = ?"
    )
    stand = "SELECT id FROM outgate_holders WHERE id = ?"
    withdraw = "DELETE FROM outgate_reservations WHERE call = ? RETURNING returned, entry"
    take = (
        "INSERT INTO outgate_purses AS p (budget, subject, period, unit, settled, reserved)"
        " VALUES (?, ?, ?, ?, 0, ?) ON CONFLICT (budget, subject, period, unit)"
        " DO UPDATE SET reserved = p.reserved + excluded.reserved"
        " WHERE p.settled + p.reserved + excluded.reserved <= ?"
    )
    #: Also into a purse that is not there: the call that pays may have been taken for dead.
    pay = (
        "INSERT INTO outgate_purses AS p (budget, subject, period, unit, settled, reserved)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (budget, subject, period, unit)"
        " DO UPDATE SET settled = p.settled + excluded.settled, reserved = p.reserved + excluded.reserved"
    )
    balance = (
        "SELECT settled, reserved FROM outgate_purses"
        " WHERE budget = ? AND subject = ? AND period = ? AND unit = ?"
    )
    drop = "DELETE FROM outgate_reservations WHERE call = ? RETURNING call, returned, entry"
    enter = "INSERT INTO outgate_holders (id, host, pid, started, beat) VALUES (?, ?, ?, ?, ?)"
    beat = "UPDATE outgate_holders SET beat = beat + 1 WHERE id = ?"
    others = "SELECT id, host, pid, started, beat FROM outgate_holders WHERE id <> ?"
    condemn = "SELECT id FROM outgate_holders WHERE id = ? AND beat = ?"
    inherit = "SELECT call FROM outgate_reservations WHERE holder = ? ORDER BY call"
    bury = "DELETE FROM outgate_holders WHERE id = ?"
    give_back = (
        "UPDATE outgate_reservations SET returned = ?"
        " WHERE holder IS NULL AND returned IS NULL RETURNING entry"
    )
    tidy = "DELETE FROM outgate_reservations WHERE returned < ?"
    leave = (
        "DELETE FROM outgate_holders WHERE id = ?"
        " AND NOT EXISTS (SELECT 1 FROM outgate_reservations WHERE holder = ?)"
    )

    def __init__(self, database: Database) -> None:
        if not database.is_sqlite:
            # A holder must not be buried between this look and the commit. SQLite has one writer anyway.
            self.hold = f"{self.hold} FOR KEY SHARE"
            self.stand = f"{self.stand} FOR KEY SHARE"
            self.condemn = f"{self.condemn} FOR UPDATE"
            self.inherit = f"{self.inherit} FOR UPDATE"
            # Several at once, and all who lock several do it in one order.
            self.give_back = (
                "UPDATE outgate_reservations SET returned = ? WHERE call IN"
                " (SELECT call FROM outgate_reservations WHERE holder IS NULL AND returned IS NULL"
                " ORDER BY call FOR UPDATE) RETURNING entry"
            )
            self.drop = (
                "DELETE FROM outgate_reservations WHERE call IN (SELECT call FROM outgate_reservations"
                " WHERE call = ANY(?) ORDER BY call FOR UPDATE) RETURNING call, returned, entry"
            )
        for name in _NAMES:
            setattr(self, name, dialect(database, getattr(self, name)))


_NAMES: Final = tuple(
    name for name, value in vars(Statements).items() if isinstance(value, str) and name[0] != "_"
)
