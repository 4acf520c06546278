"""Nobody waits in a ring: settlements, burials and reservations that are replaced lock the same rows in one order."""

import os
import random
import threading
from collections.abc import Callable
from typing import Final

from proxy import Charge, Counts, Labels, Unavailable
from proxy.store import Store
from proxy.store.holders import Holder, host
from tests.store.servers import opened

WHO: Final = Labels(key="k")
ROUNDS: Final = 12
CALLS: Final = 50
BUDGETS: Final = ("a", "b", "c")


def charges(chance: random.Random) -> list[Charge]:
    chosen = chance.sample(BUDGETS, chance.randint(1, 3))
    return [Charge(name, "k", "2026", "tokens", chance.randint(1, 9), 10**6) for name in chosen]


def deadlocks(store: Store) -> int:
    with store.database.driver(write=False) as raw:
        raw.execute("SELECT pg_stat_clear_snapshot()")
        query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        return int(raw.execute(query).fetchone()[0])


def together(*tasks: Callable[[], object]) -> list[Unavailable]:
    """Run them at the same moment; what they raised."""
    start = threading.Barrier(len(tasks))
    raised: list[Unavailable] = []

    def run(task: Callable[[], object]) -> None:
        start.wait()
        try:
            task()
        except Unavailable as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def slow(store: Store, name: str) -> Holder:
    """Everything that is reserved is that of a process which is thought to be dead."""
    mark = "?" if store.database.is_sqlite else "%s"
    values = ", ".join([mark] * 5)
    dead = Holder(name, host(), os.getpid(), 1)
    with store.database.driver(write=True) as raw:
        raw.execute(
            f"INSERT INTO outgate_holders (id, host, pid, started, beat) VALUES ({values})",
            (dead.id, dead.host, dead.pid, dead.started, dead.beat),
        )
        raw.execute(
            f"UPDATE outgate_reservations SET holder = {mark} WHERE returned IS NULL", (name,)
        )
    return dead


def test_who_is_buried_and_was_only_slow_does_not_wait_for_its_own_burial(store: Store) -> None:
    url, chance = str(store.table.url), random.Random(7)
    ledger = store.ledger
    ledger._settling._pause = 3600
    gravedigger, other = opened(url), opened(url)
    paid = 0
    before = 0 if store.database.is_sqlite else deadlocks(store)
    for number in range(ROUNDS):
        calls = [f"{number}-{n}" for n in range(CALLS)]
        taken = {call: charges(chance) for call in chance.sample(calls, len(calls))}
        for call, wanted in taken.items():
            assert ledger.reserve(call, wanted, WHO) is None
        dead = slow(store, f"slow-{number}")
        changed = chance.sample(calls, 10)
        for call in set(calls) - set(changed):
            paid += len(taken[call])
            ledger.settle(call, taken[call], {"tokens": 1}, WHO, Counts(calls=1))

        def again(names: list[str] = changed) -> None:
            for name in names:
                other.ledger.reserve(name, charges(chance), WHO, again=True)

        def bury(holder: Holder = dead) -> None:
            gravedigger.ledger._release(holder)

        assert together(ledger.flush, bury, again) == []
        for call in changed:
            assert other.ledger.reserve(call, (), WHO, again=True) is None
    balances = [store.ledger.balance(name, "k", "2026", "tokens") for name in BUDGETS]
    assert sum(found.settled for found in balances) == paid
    assert [found.reserved for found in balances] == [0, 0, 0]
    (row,) = [row for row in store.usage.report(["key"]) if row["calls"]]
    assert (row["calls"], row["abandoned"]) == (ROUNDS * (CALLS - 10), 0)
    assert before == (0 if store.database.is_sqlite else deadlocks(store))
