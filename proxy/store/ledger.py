"""Budgets, exactly: what a call may cost is reserved before it is sent, and settled when it is over.

For every purse, settled + reserved never exceeds the cap: one transaction takes from all purses of a call or
from none, and no lock is held while the upstream works. What a dead process had reserved is given back.
"""

import atexit
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from proxy.errors import Unavailable
from proxy.store.engine import Database
from proxy.store.entries import Balance, Charge, Counts, Labels, Purse, Shortage, Used, this_hour
from proxy.store.holders import Heartbeat, Holder, Watch, myself
from proxy.store.ledger_sql import Statements
from proxy.store.pruning import Pruning
from proxy.store.reserving import Lost, Reserve, Reserving, Short
from proxy.store.settling import Entry, Settlement, Settling, abandoned
from proxy.store.usage import UsageBook

log: Final = logging.getLogger("outgate.store")
#: Seconds for which an abandoned call may still come back and be settled.
_REMEMBERED: Final = 86_400


class Ledger:
    """The ledger of one process, shared by its threads."""

    def __init__(self, database: Database, lease: float, keep: int | None = None) -> None:
        """``lease`` and ``keep`` are seconds: see ``StoreTable``."""
        self._database = database
        self._lease = lease
        self._sql = Statements(database)
        self._book = UsageBook(database)
        self._settling = Settling(database)
        self._pruning = Pruning(database, keep)
        self._reserving = Reserving(database, self._sql, self._book)
        self._watch = Watch(lease)
        self._holder: Holder | None = None
        self._heart: Heartbeat | None = None
        self._registering = threading.Lock()

    def reserve(
        self, call: str, charges: Sequence[Charge], labels: Labels, *, again: bool = False
    ) -> Shortage | None:
        """Take every charge of a call, or none and say which purse was short. Raises ``Unavailable``.

        ``again``: in place of whatever the call has reserved by now, which stays where a purse is short.
        When it raises, the reservation may have been made all the same: settle it, and say ``unsure``.
        """
        wanted = tuple(sorted(charges))
        entry = msgspec.json.encode(Entry(this_hour(), labels, wanted))
        wish = Reserve(call, entry, wanted, again=again)
        flushed = False
        while True:
            holder = self._registered()
            wish.holder = holder.id
            try:
                self._reserving.do(wish)
            except Short as short:
                if flushed or not self._settling.waits:
                    shortage: Shortage = short.args[0]
                    return shortage
                # Calls that are over may still hold what this one needs.
                self.flush()
                flushed = True
            except Lost:
                self._forget(holder)
            else:
                return None

    def settle(
        self,
        call: str,
        charges: Sequence[Charge],
        spent: Mapping[str, int],
        labels: Labels,
        counts: Counts,
        *,
        unsure: bool = False,
    ) -> None:
        """Give back what a call reserved and pay what it ``spent`` of each unit; the second time, do nothing.

        ``counts`` go into the usage book with it; a call that reserved nothing is only written there.
        ``unsure``: ``reserve`` raised, so there may be nothing to give back, and that is no second time.
        It is written a moment later, with those of other calls (``settling``); until then the call holds what
        it reserved. While the database is away it waits in memory.
        """
        used = Used(this_hour(), labels, counts)
        self._settling.put(Settlement(call, tuple(charges), spent, used, unsure))
        if self._heart is None:
            self._beating()

    def flush(self) -> None:
        """Write what this process has settled by now. Raises ``Unavailable``."""
        self._settling.flush()

    def balance(self, budget: str, subject: str, period: str, unit: str) -> Balance:
        """What is known of a purse, with all that this process has settled. Raises ``Unavailable``."""
        self.flush()
        with self._database.driver(write=False) as raw:
            row = raw.execute(self._sql.balance, (budget, subject, period, unit)).fetchone()
        return Balance(*row) if row else Balance()

    def close(self) -> None:
        """End the heartbeat, settle what waits, and take this process out of the holders if it holds nothing."""
        atexit.unregister(self._at_exit)
        if self._heart is not None:
            self._heart.stop()
        late = self._settling.close()
        try:
            if self._holder is not None:
                with self._database.driver(write=True) as raw:
                    raw.execute(self._sql.leave, (self._holder.id, self._holder.id))
        except Unavailable:
            pass  # the log has it
        if late:
            log.error("store: %d settlements were not written", late)
        self._holder = self._heart = None

    # -- transactions ------------------------------------------------------------------------------

    def _release(self, other: Holder) -> None:
        """Give back what a dead process had reserved; its calls are counted as abandoned."""
        with self._database.driver(write=True) as raw:
            # Only if it stands where it was seen last: it may live, or another may have been faster.
            if raw.execute(self._sql.condemn, (other.id, other.beat)).fetchone() is None:
                return
            # It may only be slow, and settle these in this moment: so they are taken in the order in which it does.
            raw.execute(self._sql.inherit, (other.id,))
            raw.execute(self._sql.bury, (other.id,))
            self._give_back(raw)

    def _give_back(self, raw: Any) -> None:
        """Return to the purses what no holder holds any more."""
        rows = raw.execute(self._sql.give_back, (int(time.time()),)).fetchall()
        entries = [msgspec.json.decode(entry, type=Entry) for (entry,) in rows]
        held: Counter[Purse] = Counter()
        for entry in entries:
            held.update(entry.amounts())
        for purse, amount in sorted(held.items()):
            raw.execute(self._sql.pay, (*purse, 0, -amount))
        self._book.write(raw, [abandoned(entry, 1) for entry in entries])
        if entries:
            log.warning(
                "store: a process ended with %d calls under way: what they reserved is given back",
                len(entries),
            )

    # -- the heartbeat -----------------------------------------------------------------------------

    def _registered(self) -> Holder:
        """This process as it stands in the table of holders; the first time, the dead are seen to."""
        holder = self._holder
        if holder is not None:
            return holder
        self._beating()
        with self._registering:
            if self._holder is None:
                me = myself()
                with self._database.driver(write=True) as raw:
                    raw.execute(self._sql.tidy, (int(time.time()) - _REMEMBERED,))
                    raw.execute(self._sql.enter, msgspec.structs.astuple(me))
                    self._give_back(raw)
                self._holder = me
                self._release_dead()
            return self._holder

    def _forget(self, holder: Holder) -> None:
        with self._registering:
            if self._holder is holder:
                log.warning("store: this process was silent for longer than store.lease")
                self._holder = None

    def _beating(self) -> None:
        with self._registering:
            if self._heart is None:
                self._heart = Heartbeat(self._lease, self._tick)
                self._heart.start()
                atexit.register(self._at_exit, os.getpid())

    def _at_exit(self, process: int) -> None:
        if process == os.getpid():
            self.close()

    def _tick(self) -> None:
        with _survived():
            self._beat()
            self._release_dead()
            self._pruning.step()

    def _beat(self) -> None:
        holder = self._holder
        if holder is not None:
            with self._database.driver(write=True) as raw:
                alive = raw.execute(self._sql.beat, (holder.id,)).rowcount == 1
            if not alive:
                self._forget(holder)

    def _release_dead(self) -> None:
        mine = self._holder.id if self._holder else ""
        with self._database.driver(write=False) as raw:
            rows = raw.execute(self._sql.others, (mine,)).fetchall()
        for other in self._watch.dead((Holder(*row) for row in rows), time.monotonic()):
            self._release(other)


@contextmanager
def _survived() -> Iterator[None]:
    """A heart that stops would make others think that this process is dead."""
    try:
        yield
    except Unavailable:
        pass  # the log has it; the next beat tries again
    except Exception:
        log.exception("store: the heartbeat failed")
