import itertools
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import ConfigError, Globs
from proxy.config import parse
from proxy.prices import MOST_MONEY, NANO, PriceEntry, Prices, meet, nano_units, shown_money

TODAY = date(2026, 11, 22)


def entry(*models: str, **fields: Any) -> PriceEntry:
    known = {"input": Decimal("2.50"), "output": Decimal(10), **fields}
    return PriceEntry(models=models, **known)


def test_what_tokens_cost_is_exact_to_the_nano_unit_and_rounded_up() -> None:
    price = Prices([entry("m", input=Decimal("0.15"), output=Decimal("0.60"))]).price("m", TODAY)
    assert price
    assert price.cost(1_000_000, 0) == 150_000_000
    assert price.cost(1, 1) == 750
    assert price.cost(3, 0) == 450
    tiny = Prices([entry("m", input=Decimal("0.0001"))]).price("m", TODAY)
    assert tiny
    assert tiny.cost(1, 0) == 1  # a tenth of a nano-unit is never free
    assert tiny.cost(0, 0) == 0


def test_cached_tokens_have_their_own_price_and_without_one_that_of_the_input() -> None:
    cheap = Prices([entry("m", cached=Decimal("1.25"))]).price("m", TODAY)
    plain = Prices([entry("m")]).price("m", TODAY)
    assert cheap
    assert plain
    assert cheap.cost(1000, 0, 400) == 600 * 2500 + 400 * 1250
    assert plain.cost(1000, 0, 400) == 1000 * 2500
    assert cheap.cost(1000, 0, 5000) == 1000 * 1250  # no more than the prompt


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(0, 10**12))
def test_no_call_costs_more_than_the_most_it_can_cost(
    prompt: int, output: int, cached: int
) -> None:
    dear = Prices([entry("m", cached=Decimal(3))]).price("m", TODAY)
    assert dear
    assert dear.cost(prompt, output, cached) <= dear.most(prompt, output) <= MOST_MONEY


def test_the_latest_date_that_is_not_after_today_counts() -> None:
    prices = Prices(
        [
            entry("gpt-*", input=Decimal(1)),
            entry("gpt-4o", input=Decimal(2), since=date(2026, 1, 1)),
            entry("gpt-*", input=Decimal(3), since=date(2026, 6, 1)),
            entry("gpt-4o", input=Decimal(4), since=date(2026, 12, 1)),
        ]
    )

    def found(day: date, model: str = "gpt-4o") -> int:
        price = prices.price(model, day)
        assert price
        return price.number

    assert found(date(2025, 12, 31)) == 0
    assert found(date(2026, 1, 1)) == 1
    assert found(date(2026, 5, 31), "gpt-5") == 0
    assert found(TODAY) == 2
    assert found(date(2026, 12, 1)) == 3
    assert prices.price("llama", TODAY) is None
    assert prices.fitting("gpt-4o") == (0, 1, 2, 3)


def test_of_two_with_the_same_date_the_first_counts_and_the_overlap_is_told() -> None:
    prices = Prices([entry("gpt-4o*"), entry("*mini"), entry("llama"), entry("x", since=TODAY)])
    found = prices.price("gpt-4o-mini", TODAY)
    assert found
    assert found.number == 0
    assert list(prices.overlaps()) == [(0, 1)]


def test_of_two_with_the_same_date_the_name_in_full_counts_before_the_glob() -> None:
    prices = Prices([entry("gpt-4o*"), entry("gpt-4o-mini", since=None), entry("gpt-4o-mini")])
    found = prices.price("gpt-4o-mini", TODAY)
    assert found
    assert found.number == 1
    assert list(prices.overlaps()) == [(1, 2)]


def test_the_state_of_an_entry_says_whether_its_date_needs_a_look() -> None:
    dates = [None, TODAY, date(2026, 8, 23), date(2026, 8, 24), date(2026, 11, 23)]
    prices = Prices(entry("m", since=day) for day in dates)
    states = [prices.state(number, TODAY) for number in range(len(dates))]
    assert states == ["undated", "current", "stale", "current", "future"]


@given(st.text("ab*?", max_size=6), st.text("ab*?", max_size=6))
def test_two_globs_meet_when_some_name_fits_both(one: str, other: str) -> None:
    names = ("".join(letters) for n in range(7) for letters in itertools.product("abc", repeat=n))
    first, second = Globs([one]), Globs([other])
    if meet(one, other):
        # Seven letters are enough for what these globs ask for, unless both are long.
        assert len(one) + len(other) > 6 or any(first.match(n) and second.match(n) for n in names)
    else:
        assert not any(first.match(n) and second.match(n) for n in itertools.islice(names, 400))


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (0, "0.00"),
        (NANO, "1.00"),
        (1, "0.000000001"),
        (1_234_500_000, "1.2345"),
        (-5 * NANO, "-5.00"),
    ],
)
def test_money_is_shown_in_full(amount: int, shown: str) -> None:
    assert shown_money(amount) == shown
    if amount >= 0:
        assert nano_units(Decimal(shown)) == amount


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"models": [], "input": 1}, "prices[0].models is empty: name the models"),
        ({"models": ["m"]}, "input"),
        ({"models": ["m"], "input": -1}, "prices[0].input = -1: write an amount of zero or more"),
        ({"models": ["m"], "input": float("nan")}, "zero or more"),
        ({"models": ["m"], "input": 1e-10}, "at most nine digits"),
        ({"models": ["m"], "input": 1e9}, "too much for a million tokens"),
        ({"models": ["m"], "input": 1, "currency": "dollar"}, 'three letters, e.g. "USD"'),
        ({"models": ["m"], "input": 1, "most_output": 0}, "the most tokens the model answers with"),
        ({"models": ["m"], "inptu": 1}, "Did you mean 'input'?"),
        ({"models": ["m"], "input": 1, "since": "yesterday"}, "since"),
    ],
)
def test_an_entry_that_cannot_be_meant_says_how_to_write_it(
    table: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Prices(parse({"prices": [table]}).config.prices)
    assert message in str(caught.value)


def test_prices_are_read_from_the_configuration_as_they_are_written() -> None:
    table = {"models": ["m"], "input": 0.15, "output": 0.6, "since": date(2026, 1, 1)}
    (found,) = parse({"prices": [table]}).config.prices
    assert (found.input, found.output, found.since) == (
        Decimal("0.15"), Decimal("0.6"), date(2026, 1, 1),
    )  # fmt: skip
