import time
from datetime import UTC, datetime
from typing import Any

import pytest

from proxy import ConfigError, Counts, Labels
from proxy.store import Store
from proxy.store.entries import HOUR, Used, this_hour
from proxy.store.usage import UsageBook

NOON = int(datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp())
DAY = 24 * HOUR


def add(store: Store, hour: int, *, calls: int = 1, cost: int = 0, **labels: str) -> None:
    store.usage.add(Used(hour, Labels(**labels), Counts(calls=calls, cost=cost)))


def report(store: Store, *by: str, **options: Any) -> list[tuple[Any, ...]]:
    rows = store.usage.report(by, **options)
    return [(*(row[name] for name in by), row["calls"], row["cost"]) for row in rows]


def test_what_is_added_to_an_hour_is_summed_up(store: Store) -> None:
    for cost in (1, 2, 3):
        add(store, NOON, key="a", model="m", currency="USD", cost=cost)
    add(store, NOON, key="a", model="n", currency="USD", cost=10)
    add(store, NOON + HOUR, key="a", model="m", currency="USD", cost=100)
    assert report(store, "model") == [("m", 4, 106), ("n", 1, 10)]
    assert report(store, "key") == [("a", 5, 116)]
    assert report(store) == [(5, 116)]
    assert report(store, "hour", "model") == [
        (NOON, "m", 3, 6),
        (NOON, "n", 1, 10),
        (NOON + HOUR, "m", 1, 100),
    ]


def test_whether_something_happened_counts_as_one_or_none(store: Store) -> None:
    for happened in (True, False):
        store.usage.add(Used(NOON, Labels(), Counts(calls=1, refused=happened)))
    assert store.usage.report([])[0]["refused"] == 1


def test_days_begin_at_midnight_utc(store: Store) -> None:
    for hour in (NOON - 13 * HOUR, NOON - 12 * HOUR, NOON + 11 * HOUR, NOON + 12 * HOUR):
        add(store, hour)
    midnight = NOON - 12 * HOUR
    assert report(store, "day") == [
        (midnight - DAY, 1, 0),
        (midnight, 2, 0),
        (midnight + DAY, 1, 0),
    ]


def test_a_report_is_of_a_time_and_of_some(store: Store) -> None:
    for number, team in enumerate(["x", "y", "x"]):
        add(store, NOON + number * HOUR, team=team)
    assert report(store, since=NOON + HOUR + 59) == [(2, 0)]
    assert report(store, since=NOON, until=NOON + 2 * HOUR) == [(2, 0)]
    assert report(store, "team", where={"team": "x"}) == [("x", 2, 0)]
    assert report(store, "team", where={"team": "' OR 1=1 --"}) == []
    assert report(store, "hour", where={"team": "y"}) == [(NOON + HOUR, 1, 0)]


def test_money_of_two_currencies_is_never_added_up(store: Store) -> None:
    add(store, NOON, team="x", currency="USD", cost=1)
    add(store, NOON, team="x", currency="EUR", cost=2)
    rows = store.usage.report(["team"])
    assert [(row["currency"], row["cost"]) for row in rows] == [("EUR", 2), ("USD", 1)]


def test_sums_beyond_32_bits_are_exact(store: Store) -> None:
    for _ in range(3):
        add(store, NOON, cost=9 * 10**15 + 1)
    assert report(store) == [(3, 27 * 10**15 + 3)]


def test_an_unknown_column_names_the_nearest(store: Store) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'model'"):
        store.usage.report(["modle"])
    with pytest.raises(ConfigError, match="no usage by 'x; DROP TABLE outgate_usage'"):
        store.usage.report(["team"], where={"x; DROP TABLE outgate_usage": ""})


@pytest.mark.parametrize(
    ("text", "hours_ago"),
    [("7d", 168), ("12h", 12), ("2w", 336), ("0h", 0), ("2026-11-22", 12), ("2026-11-22T11:00", 1),
     ("2026-11-22T12:00+01:00", 1)],
)  # fmt: skip
def test_a_time_is_an_age_or_a_date(text: str, hours_ago: int) -> None:
    now = datetime.fromtimestamp(NOON, UTC)
    assert UsageBook.moment(text, now) == NOON - hours_ago * HOUR


@pytest.mark.parametrize("text", ["", "7", "d", "7y", "tomorrow", "999999w", "-1d", "2026-13-01"])
def test_what_is_no_time_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ConfigError, match="write for example 7d"):
        UsageBook.moment(text, datetime.fromtimestamp(NOON, UTC))


def test_this_hour_is_the_hour_that_is() -> None:
    assert 0 <= time.time() - this_hour() <= HOUR + 1
    assert this_hour() % HOUR == 0
