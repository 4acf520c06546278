"""Spend is what the store says; without a store, that is said."""

from pathlib import Path
from typing import Any

from msgspec.structs import replace

from proxy.app import assemble
from proxy.config import parse
from proxy.console.spend import money, spend
from proxy.parts import Parts
from proxy.store import Store, StoreTable
from proxy.store.entries import Counts, Labels, Used, this_hour
from tests.gateway import document


def parts(path: Path | None = None) -> Parts:
    found = assemble(parse(document("http://127.0.0.1:1", "box")))[1]
    return replace(found, store=Store(StoreTable(url=f"sqlite:///{path}")) if path else None)


def used(store: Store, ago: int = 0, **fields: Any) -> None:
    counts = Counts(calls=2, prompt_tokens=100, completion_tokens=50, cost=fields.pop("cost", 0))
    labels = Labels(**{"key": "k", "team": "red", "model": "m", **fields})
    store.usage.add(Used(this_hour() - ago * 3600, labels, counts))


def test_without_a_store_there_is_nothing_to_show() -> None:
    assert "No store" in (spend(parts(), "week").problem or "")


def test_it_adds_up_by_team_model_and_key(tmp_path: Path) -> None:
    found = parts(tmp_path / "u.db")
    assert found.store is not None
    found.store.start()
    used(found.store, cost=3 * 10**9, currency="EUR")
    used(found.store, cost=10**9, currency="EUR", team="blue")
    used(found.store, model="free")
    used(found.store, ago=24 * 20, cost=9 * 10**9, currency="EUR")
    page = spend(found, "week")
    assert page.problem is None
    assert [(row.currency, row.cost) for row in page.totals] == [("", "–"), ("EUR", "4.00 EUR")]
    by = {part.by: part for part in page.parts}
    assert [(row.name, row.cost) for row in by["team"].rows] == [
        ("red", "3.00 EUR"), ("blue", "1.00 EUR"), ("red", "–"),
    ]  # fmt: skip
    (_, euros), (_, free) = by["team"].bars
    assert [(bar.name, bar.width) for bar in euros] == [("red", 100), ("blue", 33.33)]
    assert [bar.text for bar in free] == ["150 tokens"]
    assert spend(found, "month").totals[1].cost == "13.00 EUR"
    found.store.close()


def test_a_store_that_does_not_answer_takes_nothing_else_with_it() -> None:
    away = Store(StoreTable(url="postgresql://nobody@127.0.0.1:9/none"))
    page = spend(replace(parts(), store=away), "day")
    assert page.problem == "The store does not answer; the log says why."
    away.close()


def test_money_is_written_with_its_currency() -> None:
    assert money(1_234_500_000_000, "EUR") == "1,234.50 EUR"
    assert money(1_500_000, "USD") == "0.0015 USD"
    assert money(0, "") == "–"
