import time
from datetime import UTC, datetime, timedelta

import pytest

from proxy import Charge, Counts, Labels
from proxy.store import Store, StoreTable
from proxy.store.entries import HOUR, Balance, Used, this_hour
from proxy.store.pruning import STEP, Pruning
from tests.store.servers import opened

DAY = 86_400
KEEP = 100 * DAY


def ago(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


def charge(period: str, budget: str = "b", amount: int = 10) -> Charge:
    return Charge(budget, "key_1", period, "tokens", amount, 1000)


def spend(store: Store, period: str, budget: str = "b") -> None:
    call = f"{budget}-{period}"
    assert store.ledger.reserve(call, [charge(period, budget)], Labels()) is None
    store.ledger.settle(call, [charge(period, budget)], {"tokens": 4}, Labels(), Counts())


def left(store: Store, *periods: str) -> list[str]:
    """Those of the periods whose purse is there."""
    return [
        period
        for period in periods
        if store.ledger.balance("b", "key_1", period, "tokens") != Balance()
    ]


def pruned(store: Store, keep: int | None = KEEP) -> int:
    return Pruning(store.database, keep).step()


def next_minute(store: Store) -> None:
    """Have the turn that somebody took be over."""
    with store.database.driver(write=True) as raw:
        raw.execute("UPDATE outgate_changes SET number = 0 WHERE subject = 'pruned'")


def test_purses_of_days_and_months_long_over_go_and_all_others_stay(store: Store) -> None:
    old = [f"{ago(103):%Y-%m-%d}", f"{ago(140):%Y-%m}"]
    fresh = [f"{ago(99):%Y-%m-%d}", f"{ago(99):%Y-%m}", f"{ago(0):%Y-%m-%d}", f"{ago(0):%Y-%m}"]
    ageless = ["lifetime", "2001"]
    for period in (*old, *fresh, *ageless):
        spend(store, period)
    store.ledger.flush()
    assert pruned(store) == 2
    assert left(store, *old, *fresh, *ageless) == [*fresh, *ageless]


def test_a_purse_in_which_something_is_reserved_stays(store: Store) -> None:
    period = f"{ago(400):%Y-%m}"
    assert store.ledger.reserve("c1", [charge(period)], Labels()) is None
    assert pruned(store) == 0
    store.ledger.settle("c1", [charge(period)], {"tokens": 4}, Labels(), Counts())
    assert left(store, period) == [period]
    assert pruned(store) == 1


def test_hours_of_usage_go_when_they_are_older_than_that(store: Store) -> None:
    for hours in (0, 1, 24 * 99, 24 * 100 + 1, 24 * 800):
        used = Used(this_hour() - hours * HOUR, Labels(key=str(hours)), Counts(calls=1))
        store.usage.add(used)
    assert pruned(store) == 2
    assert len(store.usage.report(["key"])) == 3


def test_a_step_removes_so_many_rows_and_the_next_minute_goes_on(store: Store) -> None:
    long_ago = this_hour() - 800 * 24 * HOUR
    with store.database.driver(write=True) as raw:
        several = [Used(long_ago, Labels(key=str(n)), Counts(calls=1)) for n in range(STEP + 3)]
        store.usage.write(raw, several)
    assert pruned(store) == STEP
    assert len(store.usage.report(["key"])) == 3
    # Another process finds that this minute's turn is taken.
    pruned(store)
    assert len(store.usage.report(["key"])) == 3
    next_minute(store)
    pruned(store)
    assert store.usage.report(["key"]) == []


def test_whoever_keeps_usage_for_ever_never_prunes(store: Store) -> None:
    spend(store, "2001-01")
    store.ledger.flush()
    assert pruned(store, None) == 0


def test_the_heartbeat_of_a_process_that_spends_does_it(
    store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    store = opened(store_url)
    spend(store, "2001-01")
    store.close()
    other = Store(StoreTable(url=store_url, lease=1, keep_usage="7d"))
    other.ledger.settle("c1", (), {}, Labels(), Counts(calls=1))
    deadline = time.monotonic() + 60
    while "removed 0 rows of usage and 1 purses" not in caplog.text:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert left(other, "2001-01") == []
    other.close()
