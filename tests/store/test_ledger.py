import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy import Charge, Counts, Labels, Unavailable
from proxy.store import Store, StoreTable
from proxy.store.entries import Balance, Shortage
from proxy.store.holders import Holder, host

WHO = Labels(key="key_1", owner="ada", team="research", model="m", endpoint="chat")
ONE = Counts(calls=1, prompt_tokens=6, completion_tokens=4, cost=70)
PATIENCE = 60.0


def charge(amount: int, budget: str = "b", cap: int = 1000, unit: str = "tokens") -> Charge:
    return Charge(budget, "key_1", "2026-11", unit, amount, cap)


def balance(store: Store, budget: str = "b", unit: str = "tokens") -> Balance:
    return store.ledger.balance(budget, "key_1", "2026-11", unit)


def reserve(store: Store, call: str, *charges: Charge) -> Shortage | None:
    return store.ledger.reserve(call, charges, WHO)


def settle(store: Store, call: str, *charges: Charge, **spent: int) -> None:
    store.ledger.settle(call, charges, spent, WHO, ONE)


def booked(store: Store) -> dict[str, int]:
    """The sums of the usage book that are not zero."""
    rows = store.usage.report(["key"])
    return {name: n for row in rows for name, n in row.items() if isinstance(n, int) and n}


def eventually(told: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not told():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def another(store: Store, lease: float = 1.0) -> Iterator[Store]:
    """The same database as another process has it."""
    found = Store(StoreTable(url=store.table.url, lease=lease))
    yield found
    found.close()


def plant(store: Store, other: Holder) -> None:
    """Make every reservation that of another process."""
    with store.database.driver(write=True) as raw:
        mark = "?" if store.database.is_sqlite else "%s"
        raw.execute(
            "INSERT INTO outgate_holders (id, host, pid, started, beat)"
            f" VALUES ({', '.join([mark] * 5)})",
            (other.id, other.host, other.pid, other.started, other.beat),
        )
        raw.execute(f"UPDATE outgate_reservations SET holder = {mark}", (other.id,))


def test_what_is_reserved_is_held_back_and_what_was_spent_is_paid(store: Store) -> None:
    assert reserve(store, "c1", charge(600)) is None
    assert balance(store) == Balance(0, 600)
    settle(store, "c1", charge(600), tokens=10)
    assert balance(store) == Balance(10, 0)
    assert booked(store) == {"calls": 1, "prompt_tokens": 6, "completion_tokens": 4, "cost": 70}


def test_a_purse_is_emptied_to_the_last_unit_and_no_further(store: Store) -> None:
    assert reserve(store, "c1", charge(999)) is None
    assert reserve(store, "c2", charge(2)) == Shortage(charge(2), 1)
    assert reserve(store, "c3", charge(1)) is None
    assert reserve(store, "c4", charge(1)) == Shortage(charge(1), 0)
    assert reserve(store, "c5", charge(0)) is None
    settle(store, "c1", charge(999), tokens=0)
    assert reserve(store, "c6", charge(999)) is None


def test_more_than_the_whole_budget_is_never_granted(store: Store) -> None:
    assert reserve(store, "c1", charge(1001)) == Shortage(charge(1001), 1000)
    assert balance(store) == Balance()


def test_a_cap_that_was_lowered_counts_at_once_and_what_is_left_is_never_below_zero(
    store: Store,
) -> None:
    assert reserve(store, "c1", charge(800)) is None
    assert reserve(store, "c2", charge(1, cap=500)) == Shortage(charge(1, cap=500), 0)


def test_a_call_takes_from_all_its_purses_or_from_none(store: Store) -> None:
    poor = charge(50, budget="z", cap=10)
    assert reserve(store, "c1", charge(50), charge(50, budget="a"), poor) == Shortage(poor, 10)
    assert balance(store) == balance(store, "a") == Balance()
    # Nothing of the call is left: it may be asked again.
    assert reserve(store, "c1", charge(50), charge(50, budget="a")) is None


def again(store: Store, call: str, *charges: Charge) -> Shortage | None:
    return store.ledger.reserve(call, charges, WHO, again=True)


def test_what_is_reserved_again_takes_the_place_of_what_was(store: Store) -> None:
    assert reserve(store, "c1", charge(600), charge(50, "a")) is None
    for amount in (900, 1000, 1000, 20):
        assert again(store, "c1", charge(amount), charge(7, "z")) is None
        assert (balance(store), balance(store, "z")) == (Balance(0, amount), Balance(0, 7))
        assert balance(store, "a") == Balance()
    settle(store, "c1", charge(20), charge(7, "z"), tokens=10)
    assert balance(store) == balance(store, "z") == Balance(10, 0)
    assert booked(store)["calls"] == 1


def test_what_cannot_be_reserved_again_leaves_what_was(store: Store) -> None:
    assert reserve(store, "c1", charge(600)) is None
    assert reserve(store, "c2", charge(100)) is None
    assert again(store, "c1", charge(901), charge(1, "a")) == Shortage(charge(901), 900)
    assert (balance(store), balance(store, "a")) == (Balance(0, 700), Balance())
    settle(store, "c1", charge(600), tokens=0)
    assert balance(store) == Balance(0, 100)


def test_nothing_can_be_reserved_in_place_of_something_and_the_other_way_round(
    store: Store,
) -> None:
    assert reserve(store, "c1", charge(600)) is None
    assert again(store, "c1") is None
    assert balance(store) == Balance()
    assert again(store, "c1", charge(5)) is None
    assert balance(store) == Balance(0, 5)
    settle(store, "c1", charge(5), tokens=1)
    assert balance(store) == Balance(1, 0)


def test_a_process_that_was_only_slow_may_reserve_again(store: Store) -> None:
    reserve(store, "c1", charge(600), charge(5, "a"))
    plant(store, Holder("dead", host(), os.getpid(), 1))
    with another(store) as living:
        assert reserve(living, "c2", charge(990)) is None
        assert booked(store) == {"calls": 1, "abandoned": 1}
        assert again(store, "c1", charge(600)) == Shortage(charge(600), 10)
        assert again(store, "c1", charge(10)) is None
        assert (balance(store), balance(store, "a")) == (Balance(0, 1000), Balance())
        assert booked(store) == {}
        settle(store, "c1", charge(10), tokens=3)
        assert balance(store) == Balance(3, 990)
    assert booked(store)["calls"] == 1


def test_what_the_row_holds_is_given_back_whichever_reservation_failed(store: Store) -> None:
    reserve(store, "c1", charge(600))
    # The second failed, and nobody knows whether it was made.
    store.ledger.settle("c1", [charge(50, "a")], {"tokens": 4}, WHO, ONE, unsure=True)
    assert (balance(store), balance(store, "a")) == (Balance(), Balance(4, 0))
    reserve(store, "c2", charge(600))
    store.ledger.settle("c2", (), {}, WHO, ONE, unsure=True)
    assert balance(store) == Balance()


def test_what_was_reserved_again_comes_back_from_the_dead(store: Store) -> None:
    reserve(store, "c1", charge(600))
    again(store, "c1", charge(7, "a"))
    plant(store, Holder("dead", host(), os.getpid(), 1))
    with another(store) as living:
        reserve(living, "c2", charge(1))
    assert (balance(store), balance(store, "a")) == (Balance(0, 1), Balance())


def test_a_process_that_was_taken_for_dead_registers_before_it_reserves_again(
    store: Store,
) -> None:
    reserve(store, "c1", charge(600))
    with store.database.driver(write=True) as raw:
        raw.execute("DELETE FROM outgate_holders")
    assert again(store, "c1", charge(300)) is None
    assert balance(store) == Balance(0, 300)


def test_threads_that_reserve_again_from_the_same_purses_get_what_is_there(store: Store) -> None:
    granted: list[int] = []

    def spend(name: str) -> None:
        for number in range(12):
            call = f"{name}-{number}"
            if reserve(store, call, charge(10, "a"), charge(10, "b")) is not None:
                continue
            wanted = [charge(10 + number % 3, "c"), charge(10, "b")]
            held = wanted if again(store, call, *wanted) is None else None
            kept = held or [charge(10, "a"), charge(10, "b")]
            settle(store, call, *kept, tokens=10)
            granted.append(sum(one.budget == "c" for one in kept))

    threads = [threading.Thread(target=spend, args=(str(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    paid = {name: balance(store, name) for name in "abc"}
    assert paid["c"] == Balance(10 * sum(granted), 0)
    assert paid["a"] == Balance(10 * (len(granted) - sum(granted)), 0)
    assert paid["b"] == Balance(10 * len(granted), 0)
    assert max(found.settled for found in paid.values()) <= 1000


def test_units_are_purses_of_their_own(store: Store) -> None:
    both = (charge(10), charge(2000, unit="USD", cap=5000))
    assert reserve(store, "c1", *both) is None
    settle(store, "c1", *both, tokens=4, USD=1500)
    assert balance(store) == Balance(4, 0)
    assert balance(store, unit="USD") == Balance(1500, 0)


def test_settling_twice_pays_once(store: Store) -> None:
    reserve(store, "c1", charge(600))
    for _ in range(3):
        settle(store, "c1", charge(600), tokens=10)
    assert balance(store) == Balance(10, 0)
    assert booked(store)["calls"] == 1


def test_what_was_never_reserved_cannot_be_settled_but_is_booked_without_charges(
    store: Store,
) -> None:
    settle(store, "c1", charge(600), tokens=10)
    assert balance(store) == Balance()
    assert booked(store) == {}
    settle(store, "c2")
    assert booked(store)["calls"] == 1


def test_a_call_that_may_not_have_been_reserved_is_paid_either_way(store: Store) -> None:
    reserve(store, "c1", charge(600))
    for call in ("c1", "c2"):
        store.ledger.settle(call, [charge(600)], {"tokens": 10}, WHO, ONE, unsure=True)
    assert balance(store) == Balance(20, 0)
    assert booked(store)["calls"] == 2


def test_an_upstream_that_counts_more_than_was_reserved_is_believed(store: Store) -> None:
    reserve(store, "c1", charge(900))
    settle(store, "c1", charge(900), tokens=5000)
    assert balance(store) == Balance(5000, 0)
    assert reserve(store, "c2", charge(0)) == Shortage(charge(0), 0)


def test_what_a_dead_process_of_this_host_reserved_comes_back_at_once(store: Store) -> None:
    reserve(store, "c1", charge(600), charge(5, budget="a"))
    reserve(store, "c2", charge(100))
    plant(store, Holder("dead", host(), os.getpid(), 1))
    with another(store) as living:
        assert reserve(living, "c3", charge(1000)) is None
    assert balance(store, "a") == Balance()
    assert booked(store) == {"calls": 2, "abandoned": 2}


def test_what_a_silent_process_elsewhere_reserved_comes_back_after_the_lease(store: Store) -> None:
    reserve(store, "c1", charge(600))
    plant(store, Holder("silent", "another host", 1, 1))
    with another(store) as living:
        assert reserve(living, "c2", charge(1000)) == Shortage(charge(1000), 400)
        eventually(lambda: balance(store) == Balance())
    assert booked(store) == {"calls": 1, "abandoned": 1}


def test_a_process_that_was_only_slow_pays_after_all(store: Store) -> None:
    reserve(store, "c1", charge(600))
    plant(store, Holder("dead", host(), os.getpid(), 1))
    with another(store) as living:
        reserve(living, "c2", charge(1))
    settle(store, "c1", charge(600), tokens=10)
    settle(store, "c1", charge(600), tokens=10)
    assert balance(store) == Balance(10, 1)
    assert booked(store) == {"calls": 1, "prompt_tokens": 6, "completion_tokens": 4, "cost": 70}


def test_a_process_that_was_taken_for_dead_registers_again(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    reserve(store, "c1", charge(600))
    with store.database.driver(write=True) as raw:
        raw.execute("DELETE FROM outgate_holders")
    assert reserve(store, "c2", charge(100)) is None
    assert "this process was silent for longer than store.lease" in caplog.text
    settle(store, "c2", charge(100), tokens=100)
    with another(store) as living:
        reserve(living, "c3", charge(1))
    assert balance(store) == Balance(100, 1)


def test_a_living_process_keeps_what_it_reserved(store: Store) -> None:
    with another(store) as one, another(store) as other:
        assert reserve(one, "c1", charge(600)) is None
        assert reserve(other, "c2", charge(100)) is None
        time.sleep(1.5)
        assert balance(store) == Balance(0, 700)
        settle(one, "c1", charge(600), tokens=1)


def test_threads_that_spend_from_the_same_purses_in_any_order_get_what_is_there(
    store: Store,
) -> None:
    granted: list[str] = []

    def spend(name: str) -> None:
        for number in range(25):
            call = f"{name}-{number}"
            charges = [charge(10, budget) for budget in ("a", "b", "c")]
            if reserve(store, call, *(charges if number % 2 else charges[::-1])) is None:
                granted.append(call)
                settle(store, call, *charges, tokens=10)

    threads = [threading.Thread(target=spend, args=(str(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == 100  # of 200, as the cap is 1000
    assert all(balance(store, budget) == Balance(1000, 0) for budget in "abc")
    assert booked(store)["calls"] == 100


def test_closing_takes_the_process_out_and_the_store_opens_again(store: Store) -> None:
    reserve(store, "c1", charge(600))
    settle(store, "c1", charge(600), tokens=1)
    store.close()
    with store.database.driver(write=False) as raw:
        assert raw.execute("SELECT count(*) FROM outgate_holders").fetchone()[0] == 0
    assert reserve(store, "c2", charge(600)) is None


def test_a_settlement_waits_for_a_database_that_is_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "outgate.db"
    store = Store(StoreTable(url=f"sqlite:///{path}", lease=1))
    reserve(store, "c1", charge(600))
    with another(store) as other:
        with other.database.driver(write=True), caplog.at_level(logging.ERROR):
            # Somebody holds the database for longer than anybody waits.
            settle(store, "c1", charge(600), tokens=10)
            with pytest.raises(Unavailable):
                reserve(store, "c2", charge(1))
        assert "database is locked" in caplog.text
        eventually(lambda: balance(store) == Balance(10, 0))
    assert booked(store)["calls"] == 1
    store.close()


def test_what_cannot_be_settled_before_the_end_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(StoreTable(url=f"sqlite:///{tmp_path / 'outgate.db'}", lease=3600))
    reserve(store, "c1", charge(600))
    with another(store) as other, other.database.driver(write=True):
        settle(store, "c1", charge(600), tokens=10)
        store.close()
    assert "1 settlements were not written" in caplog.text
    with another(store) as other:
        assert balance(other) == Balance(0, 600)


def test_a_settlement_that_can_never_be_written_does_not_hold_up_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(StoreTable(url=f"sqlite:///{tmp_path / 'outgate.db'}", lease=1))
    reserve(store, "c1", charge(600))
    with another(store) as other, other.database.driver(write=True):
        store.ledger.settle("c0", (), {}, WHO, Counts(cost=2**63))
        settle(store, "c1", charge(600), tokens=10)
    eventually(lambda: balance(store) == Balance(10, 0))
    assert "the settlement of c0 cannot be written" in caplog.text
    store.close()


def test_a_forked_child_has_its_own_place_and_leaves_that_of_its_parent_alone(
    tmp_path: Path,
) -> None:
    store = Store(StoreTable(url=f"sqlite:///{tmp_path / 'outgate.db'}", lease=1))
    reserve(store, "parent", charge(100))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if reserve(store, "child", charge(200)) is None else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    eventually(lambda: balance(store) == Balance(0, 100))
    assert booked(store) == {"calls": 1, "abandoned": 1}
    settle(store, "parent", charge(100), tokens=7)
    assert balance(store) == Balance(7, 0)
    store.close()
